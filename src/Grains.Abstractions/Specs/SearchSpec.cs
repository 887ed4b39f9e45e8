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

    /// <summary>A trial that succeeds with this value or a better one ends the search. Default: none.</summary>
    public double? Target { get; init; }
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

    /// <summary>Trials of a generation of nsga-ii and pbt. Default: 24 for nsga-ii, 8 for pbt.</summary>
    [Range(4, 10_000)]
    public int? Population { get; init; }
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

    /// <summary>Genetic algorithm that keeps the Pareto front of several objectives.</summary>
    [JsonStringEnumMemberName("nsga-ii")]
    NsgaII,

    /// <summary>Population-based training: every generation goes on with the trained parameters of the one before, its worst quarter with those of the best, changed a little.</summary>
    Pbt,
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

    /// <summary>Searched only in trials in which other parameters, declared before, have these values: path to one value or a list of them. Else the spec's own value holds.</summary>
    [NestedAsText]
    public IReadOnlyDictionary<string, string>? When { get; init; }
}

/// <summary>Which trials end before their last step.</summary>
public sealed record EarlyStoppingSpec
{
    /// <summary>Which rule.</summary>
    [Required]
    public required EarlyStoppingName Name { get; init; }

    /// <summary>Steps before the first look. Default: 1.</summary>
    [Range(1, 10_000_000)]
    public int MinSteps { get; init; } = 1;

    /// <summary>One of so many trials goes on from look to look, to so many times the steps. Default: 3.</summary>
    [Range(2, 100)]
    public int ReductionFactor { get; init; } = 3;

    /// <summary>For asha: promotion lets a trial rest after each look until it is among the best, stopping ends it when it is not. Default: promotion.</summary>
    public HalvingMode Mode { get; init; } = HalvingMode.Promotion;

    /// <summary>For median: trials that end before any is stopped. Default: 5.</summary>
    [Range(1, 100_000)]
    public int MinTrials { get; init; } = 5;
}

/// <summary>Rules of early stopping a spec may name.</summary>
public enum EarlyStoppingName
{
    /// <summary>Asynchronous successive halving: the best part of those looked at so far goes on.</summary>
    Asha,

    /// <summary>Brackets of successive halving, from many short trials to few long ones.</summary>
    Hyperband,

    /// <summary>A trial whose best value is worse than the median of the others' at the same step ends.</summary>
    Median,
}

/// <summary>The two kinds of asynchronous halving.</summary>
public enum HalvingMode
{
    /// <summary>A trial rests after a look; the next free place goes to a resting trial that is among the best, else to a new one.</summary>
    Promotion,

    /// <summary>A trial that is not among the best at a look ends, the others go on at once.</summary>
    Stopping,
}

/// <summary>What a search may cost beside maxTrials. When one is spent, running trials stop after the step in hand and no other begins.</summary>
public sealed record BudgetSpec
{
    /// <summary>Hours since the submission, pauses included. Default: no limit.</summary>
    [Range(1e-4, 1e5)]
    public double? Hours { get; init; }

    /// <summary>Evaluations of the network, forward and backward, over all trials. Default: no limit.</summary>
    [Range(1.0, 1e15)]
    public double? Evaluations { get; init; }

    /// <summary>Trials that may fail; one more ends the search. Default: no limit.</summary>
    [Range(0, 100_000)]
    public int? Failures { get; init; }
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
