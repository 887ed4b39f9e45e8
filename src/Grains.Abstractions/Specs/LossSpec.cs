using System.ComponentModel.DataAnnotations;

namespace AdjointDpm.Grains.Specs;

/// <summary>One differentiable metric of the generated sample.</summary>
public sealed record LossSpec
{
    /// <summary>Which metric.</summary>
    [Required]
    public required LossName Name { get; init; }

    /// <summary>Factor in the weighted sum. Default: 1.</summary>
    [Range(-1e6, 1e6)]
    public double Weight { get; init; } = 1.0;

    /// <summary>Folder of the classifier whose features or logits are used, relative to the spec file.</summary>
    [ExistingPath(ExistingPathKind.Folder)]
    public string? Classifier { get; init; }

    /// <summary>Feature layers of the classifier, for gram-style. Default: all its feature layers.</summary>
    [MinLength(1)]
    public IReadOnlyList<string>? Layers { get; init; }

    /// <summary>Reference image, for gram-style and pixel-distance, relative to the spec file.</summary>
    [ExistingPath(ExistingPathKind.File)]
    public string? Reference { get; init; }
}

/// <summary>Losses a spec may name.</summary>
public enum LossName
{
    /// <summary>Squared distance of Gram matrices of classifier features to those of a reference image.</summary>
    GramStyle,

    /// <summary>Cross-entropy of a classifier against the class that the sample was asked to show.</summary>
    CrossEntropy,

    /// <summary>Mean squared distance in pixels to the frozen model's sample from the same noise, or to a reference image.</summary>
    PixelDistance,
}

/// <summary>Evaluation on seeds and judges that took no part.</summary>
public sealed record HeldOutSpec
{
    /// <summary>Folder of a classifier that no loss uses, relative to the spec file; gives accuracy before and after.</summary>
    [ExistingPath(ExistingPathKind.Folder)]
    public string? Classifier { get; init; }

    /// <summary>Samples per evaluation. Default: 40.</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 40;

    /// <summary>Seed of the evaluation's noise, never used in training. Default: 1000003.</summary>
    [Range(0, int.MaxValue)]
    public int Seed { get; init; } = 1_000_003;
}
