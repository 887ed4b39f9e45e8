using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Specs;

/// <summary>What trials are ranked by.</summary>
public sealed record ObjectiveSpec
{
    /// <summary>Name of a recorded metric, such as <c>heldOut.loss.after</c>. Default: loss (the training loss of the last step).</summary>
    [Required]
    public string Metric { get; init; } = "loss";

    /// <summary>Direction. Default: minimize.</summary>
    public Goal Goal { get; init; } = Goal.Minimize;
}

/// <summary>Directions of an objective.</summary>
public enum Goal
{
    /// <summary>Smaller is better.</summary>
    Minimize,

    /// <summary>Larger is better.</summary>
    Maximize,
}

/// <summary>Search algorithm.</summary>
public sealed record AlgorithmSpec
{
    /// <summary>Which search. Default: grid.</summary>
    public AlgorithmName Name { get; init; } = AlgorithmName.Grid;

    /// <summary>Seed of the search. Default: 1.</summary>
    [Range(0, int.MaxValue)]
    public int Seed { get; init; } = 1;
}

/// <summary>Searches a spec may name.</summary>
public enum AlgorithmName
{
    /// <summary>All combinations of the listed values, the last parameter fastest.</summary>
    Grid,

    /// <summary>Independent draws, keyed (seed, trial, parameter).</summary>
    Random,

    /// <summary>Points of the Sobol sequence, which fill the space more evenly than draws.</summary>
    Sobol,

    /// <summary>Tree-structured Parzen estimator over all parameters at once: looks where good trials lie densest.</summary>
    Tpe,

    /// <summary>Gaussian process with expected improvement: few and costly trials of few parameters.</summary>
    Gp,

    /// <summary>Evolution strategy with covariance adaptation: many trials of intervals that hang together.</summary>
    CmaEs,
}

/// <summary>Domain of one searched parameter: either values, or an interval.</summary>
public sealed record ParameterSpec
{
    /// <summary>Listed values, as text in the form the parameter takes; a list as a JSON array.</summary>
    [MinLength(1), NestedAsText]
    public IReadOnlyList<string>? Values { get; init; }

    /// <summary>How an interval is drawn from. Default: uniform.</summary>
    public Distribution Distribution { get; init; } = Distribution.Uniform;

    /// <summary>Lower end of an interval, inclusive.</summary>
    public double? Min { get; init; }

    /// <summary>Upper end of an interval, inclusive.</summary>
    public double? Max { get; init; }
}

/// <summary>Distributions over an interval.</summary>
public enum Distribution
{
    /// <summary>Uniform real numbers.</summary>
    Uniform,

    /// <summary>Uniform in the logarithm; needs min > 0.</summary>
    [JsonStringEnumMemberName("logUniform")]
    LogUniform,

    /// <summary>Uniform whole numbers.</summary>
    [JsonStringEnumMemberName("intUniform")]
    IntUniform,
}
