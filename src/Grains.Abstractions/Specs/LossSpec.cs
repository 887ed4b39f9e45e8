using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Specs;

/// <summary>One differentiable metric of the generated sample, or of its noise. Which keys it has depends on its name; docs/losses.md has the formulas.</summary>
public sealed record LossSpec
{
    /// <summary>Which metric.</summary>
    [Required]
    public required LossName Name { get; init; }

    /// <summary>Factor in the weighted sum. Default: 1.</summary>
    [Range(-1e6, 1e6)]
    public double Weight { get; init; } = 1.0;

    /// <summary>Folder of the classifier whose features or logits are used, relative to the spec file. A net of one's own as a list of layers is one too (docs/files.md).</summary>
    [ExistingPath(ExistingPathKind.Folder)]
    public string? Classifier { get; init; }

    /// <summary>Feature layers of the classifier, for gram-style, content and perceptual. Default: all its feature layers.</summary>
    [MinLength(1)]
    public IReadOnlyList<string>? Layers { get; init; }

    /// <summary>Reference image, relative to the spec file. pixel-distance, content and perceptual without one measure the distance to the frozen model's sample from the same noise.</summary>
    [ExistingPath(ExistingPathKind.File)]
    public string? Reference { get; init; }

    /// <summary>Class that a classifier should see, or no longer see, in every sample. Default: the class that the sample was asked to show.</summary>
    [Range(0, int.MaxValue)]
    public int? Label { get; init; }

    /// <summary>Towards the class or away from it, for log-probability and margin. Default: targeted.</summary>
    public AuditGoalName? Goal { get; init; }

    /// <summary>Margin, in logits, at which a sample is far enough through, for margin. Default: 0.</summary>
    [Range(0.0, 1e6)]
    public double? Confidence { get; init; }

    /// <summary>Standard deviation of both Gaussians in units of the samples, for gaussian-divergence. Required there.</summary>
    [Range(1e-6, 1e6)]
    public double? Deviation { get; init; }

    /// <summary>Squared differences, for total-variation; the squared deviation of the length in place of its log-density, for noise-norm. Default: false.</summary>
    public bool? Squared { get; init; }

    /// <summary>File of torchscript, onnx, or of aesthetic's head (safetensors), relative to the spec file.</summary>
    [ExistingPath(ExistingPathKind.File)]
    public string? File { get; init; }

    /// <summary>Which column of an output [B, K] is the score, for onnx. Default: the output is [B] or [B, 1].</summary>
    [Range(0, int.MaxValue)]
    public int? Column { get; init; }

    /// <summary>Values of the pictures that torchscript, onnx and sidecar take. Default: unit.</summary>
    public PixelRangeName? Range { get; init; }

    /// <summary>Whether the scores of torchscript, onnx and sidecar are better the higher they are. Default: true.</summary>
    public bool? Maximize { get; init; }

    /// <summary>Folder of CLIP's vision tower (CLIPVisionModelWithProjection), relative to the spec file.</summary>
    [ExistingPath(ExistingPathKind.Folder)]
    public string? Clip { get; init; }

    /// <summary>Text that CLIP should see, for clip-similarity. Default: the prompt that the sample was asked to show.</summary>
    public string? Text { get; init; }

    /// <summary>Folder of CLIP's text tower (CLIPTextModelWithProjection) with its tokenizer files, for texts of clip-similarity.</summary>
    [ExistingPath(ExistingPathKind.Folder)]
    public string? ClipText { get; init; }

    /// <summary>After how many of CLIP's layers the states are taken, for clip-gram. Default: 3.</summary>
    [Range(1, 1000)]
    public int? Layer { get; init; }

    /// <summary>How Gram matrices are compared, for clip-gram. Default: relative.</summary>
    public GramDistanceName? Distance { get; init; }

    /// <summary>Random square parts that CLIP or a classifier looks at instead of the whole, each brought to the size of the whole; others at each step. Default: the whole.</summary>
    [Range(1, 1024)]
    public int? Cutouts { get; init; }

    /// <summary>Height and width in pixels that pictures and references are brought to before a classifier or a reward looks at them, differentiably and with antialiasing. Default: as they are.</summary>
    [Range(1, 4096)]
    public int? Resize { get; init; }

    /// <summary>Score to come near to, for aesthetic. Default: the higher the better.</summary>
    [Range(-1e6, 1e6)]
    public double? Target { get; init; }

    /// <summary>Where copies of the reward listen, for sidecar, such as http://127.0.0.1:8900. All workers must reach them.</summary>
    [MinLength(1)]
    public IReadOnlyList<string>? Addresses { get; init; }

    /// <summary>Where the bearer token for the sidecar is: env:NAME, an environment variable of the silos whose name begins with ADPM_SECRET_. Read when the sidecar is asked and stored nowhere. Default: none is sent.</summary>
    public string? SecretRef { get; init; }

    /// <summary>Name that the silos' host registered the loss under, for custom (docs/losses.md).</summary>
    public string? Loss { get; init; }

    /// <summary>What the loss is told, by name, for custom. Default: nothing.</summary>
    public IReadOnlyDictionary<string, string>? Options { get; init; }
}

/// <summary>Losses a spec may name: those of the library.</summary>
public enum LossName
{
    /// <summary>Squared distance of Gram matrices of classifier features to those of a reference image.</summary>
    GramStyle,

    /// <summary>Cross-entropy of a classifier against the class that the sample was asked to show, or 'label'.</summary>
    CrossEntropy,

    /// <summary>Mean squared distance in pixels to the frozen model's sample from the same noise, or to a reference image.</summary>
    PixelDistance,

    /// <summary>A classifier's log-probability of a class, for it or ('goal') against it.</summary>
    LogProbability,

    /// <summary>How far a classifier's decision is from the one looked for, in logits: Carlini and Wagner's f6.</summary>
    Margin,

    /// <summary>Mean squared distance of classifier features to those of a reference image or of the frozen model's sample.</summary>
    Content,

    /// <summary>LPIPS' distance of classifier features of unit length, to a reference image or the frozen model's sample.</summary>
    Perceptual,

    /// <summary>Divergence of two Gaussians about the sample and the frozen model's sample from the same noise ('deviation').</summary>
    GaussianDivergence,

    /// <summary>How restless a sample is: differences of neighbouring pixels.</summary>
    TotalVariation,

    /// <summary>Keeps x_T as long as noise is; for train.target noise.</summary>
    NoiseNorm,

    /// <summary>How far CLIP finds the sample from a text or from a reference image.</summary>
    ClipSimilarity,

    /// <summary>How far the style of a reference image is in CLIP's eyes.</summary>
    ClipGram,

    /// <summary>Minus an aesthetic score: a linear head ('file') on CLIP.</summary>
    Aesthetic,

    /// <summary>Minus the score of a TorchScript file.</summary>
    [JsonStringEnumMemberName("torchscript")]
    TorchScript,

    /// <summary>Minus the score of an ONNX file, computed with a gradient.</summary>
    [JsonStringEnumMemberName("onnx")]
    Onnx,

    /// <summary>Minus the score of a process of its own, with the gradient that it gives.</summary>
    Sidecar,

    /// <summary>A class of C# that the silos' host registered ('loss').</summary>
    Custom,
}

/// <summary>What an audit of a classifier looks for.</summary>
public enum AuditGoalName
{
    /// <summary>Samples that the classifier takes for the class.</summary>
    Targeted,

    /// <summary>Samples that the classifier takes for anything else.</summary>
    Untargeted,
}

/// <summary>Values of pictures.</summary>
public enum PixelRangeName
{
    /// <summary>[0, 1], black to white.</summary>
    Unit,

    /// <summary>[-1, 1].</summary>
    Symmetric,
}

/// <summary>How two Gram matrices are compared.</summary>
public enum GramDistanceName
{
    /// <summary>The squared distance over the reference's squared norm.</summary>
    Relative,

    /// <summary>The distance, not squared.</summary>
    Norm,
}

/// <summary>Evaluation on seeds and judges that took no part.</summary>
public sealed record HeldOutSpec
{
    /// <summary>Folder of a classifier that no loss uses, relative to the spec file; gives accuracy before and after.</summary>
    [ExistingPath(ExistingPathKind.Folder)]
    public string? Classifier { get; init; }

    /// <summary>Samples per evaluation. Default: 40. Where x_T itself is fixed (train.target noise, training.fixedNoise) those samples are evaluated instead.</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 40;

    /// <summary>Seed of the evaluation's noise, never used in training. Default: 1000003.</summary>
    [Range(0, int.MaxValue)]
    public int Seed { get; init; } = 1_000_003;

    /// <summary>Class that the judge should see in every sample. Default: the class that the sample was asked to show.</summary>
    [Range(0, int.MaxValue)]
    public int? Label { get; init; }

    /// <summary>Height and width in pixels that pictures are brought to before the judge looks at them. Default: as they are.</summary>
    [Range(1, 4096)]
    public int? Resize { get; init; }

    /// <summary>Losses that take no part in the training, measured on the held-out samples as heldOut.losses.NAME, and their weighted sum as heldOut.losses.sum. Default: none.</summary>
    [MinLength(1)]
    public IReadOnlyList<LossSpec>? Losses { get; init; }

    /// <summary>Measure how different two samples of one class are, as heldOut.diversity: falls when the model draws ever the same. Default: false.</summary>
    public bool? Diversity { get; init; }

    /// <summary>Measure how far the samples went from those that the untrained model draws of the same noise, as heldOut.distance. Default: false.</summary>
    public bool? Distance { get; init; }

    /// <summary>Held-out number by which 'every' keeps the best version and 'patience' stops: loss, a loss by its name, losses.NAME, losses.sum, accuracy, diversity or distance. Default: loss.</summary>
    public string? Metric { get; init; }

    /// <summary>Whether 'metric' is better small or large. Default: large for accuracy and diversity, else small.</summary>
    public Goal? Goal { get; init; }

    /// <summary>Evaluate every so many steps too, keep the parameters with the best held-out metric, and save those. Default: only before and after.</summary>
    [Range(1, 1_000_000)]
    public int? Every { get; init; }

    /// <summary>Evaluations in a row without a new best held-out metric after which training ends; with 'every'. Default: none ends it.</summary>
    [Range(1, 1_000_000)]
    public int? Patience { get; init; }
}
