namespace AdjointDpm.Schedules;

/// <summary>How a diffusers scheduler spaces its steps; what its configuration says.</summary>
public sealed record DiffusersSpacing
{
    /// <summary><see cref="GridKind.Leading"/>, <see cref="GridKind.Trailing"/>, <see cref="GridKind.Linspace"/>, or <see cref="GridKind.Karras"/> ("use_karras_sigmas") for families other than <see cref="SchedulerFamily.OneStep"/>.</summary>
    public required GridKind Kind { get; init; }

    /// <summary>Number of steps, from 1 to the number of trained ones.</summary>
    public required int Steps { get; init; }

    /// <summary>diffusers' steps_offset, added to leading steps. Default: 0.</summary>
    public int Offset { get; init; }

    /// <summary>Whether the last step removes all noise (set_alpha_to_one, final_sigmas_type "zero") or stops at trained step 0. Default: true.</summary>
    public bool EndWithoutNoise { get; init; } = true;

    /// <summary>Kind of scheduler. Default: <see cref="SchedulerFamily.OneStep"/>.</summary>
    public SchedulerFamily Family { get; init; }

    /// <summary>The spacing that gives Karras' levels their ends, in the family that takes them from it. Default: linspace.</summary>
    public GridKind Within { get; init; } = GridKind.Linspace;

    /// <summary>Least log(alpha / sigma) to begin from ("lambda_min_clipped"). Default: minus infinity.</summary>
    public double MinimalLambda { get; init; } = double.NegativeInfinity;

    /// <summary>Levels fall geometrically over the whole schedule whatever the times are, and end at the least one (Euler's "log_linear"). Default: false.</summary>
    public bool IsGeometric { get; init; }

    /// <summary>The network is told a quarter of log(sigma / alpha) in place of a trained step (Euler's "continuous"). Default: false.</summary>
    public bool TellsLogSigma { get; init; }

    /// <summary>Least of Karras' levels of sigma / alpha ("sigma_min"). Default: null, what the family takes.</summary>
    public double? LeastRho { get; init; }

    /// <summary>Largest of Karras' levels of sigma / alpha ("sigma_max"). Default: null, what the family takes.</summary>
    public double? MostRho { get; init; }

    /// <summary>Whether times of Karras' levels are rounded to trained steps. Default: null, in the multistep family.</summary>
    public bool? RoundsTimes { get; init; }
}
