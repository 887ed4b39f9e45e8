namespace AdjointDpm.Samplers;

/// <summary>How an adaptive solver chooses its steps: tolerances, and a proportional–integral–derivative controller on the error of the last steps.</summary>
/// <remarks>
/// <para>A step is accepted if the root mean square over all elements of error / (Absolute + Relative · max(|y|, |y⁺|)) is at most 1. Tolerances have no default: what is accurate enough is the caller's to say.</para>
/// <para>With r_n that ratio and k the order of the error estimate, the next step is the last one times
/// Safety · r_n^(-(P+I+D)/k) · r_(n-1)^((P+2D)/k) · r_(n-2)^(-D/k), kept within [<see cref="MinFactor"/>, <see cref="MaxFactor"/>]. Söderlind (2003), "Digital filters in adaptive time-stepping". A rejected step uses r_n alone and leaves the memory as it was.</para>
/// <para>Step sizes are numbers, not part of any graph: no gradient goes through their choice.</para>
/// </remarks>
public sealed record StepControl
{
    /// <summary>Tolerated error relative to the state, positive.</summary>
    public required double Relative { get; init => field = Positive(value, nameof(Relative)); }

    /// <summary>Tolerated absolute error, positive, in units of y = x / alpha.</summary>
    public required double Absolute { get; init => field = Positive(value, nameof(Absolute)); }

    /// <summary>Weight P of the last error's change. Default: 0.2.</summary>
    public double Proportional { get; init; } = 0.2;

    /// <summary>Weight I of the last error. Default: 0.8.</summary>
    public double Integral { get; init => field = Positive(value, nameof(Integral)); } = 0.8;

    /// <summary>Weight D of the change of the change. Default: 0.</summary>
    public double Derivative { get; init; }

    /// <summary>Factor on every proposed step. Default: 0.9.</summary>
    public double Safety { get; init => field = Positive(value, nameof(Safety)); } = 0.9;

    /// <summary>Least factor from one step to the next. Default: 0.2.</summary>
    public double MinFactor { get; init => field = Positive(value, nameof(MinFactor)); } = 0.2;

    /// <summary>Largest factor from one step to the next. Default: 10.</summary>
    public double MaxFactor { get; init => field = Positive(value, nameof(MaxFactor)); } = 10;

    /// <summary>First step, in the integration variable. Default: chosen by Hairer, Nørsett and Wanner's rule (Solving Ordinary Differential Equations I, II.4), for one more evaluation.</summary>
    public double? InitialStep { get; init => field = value is { } h ? Positive(h, nameof(InitialStep)) : null; }

    /// <summary>Steps below this fail the solve. Default: 16 units in the last place of the integration variable.</summary>
    public double? MinStep { get; init => field = value is { } h ? Positive(h, nameof(MinStep)) : null; }

    /// <summary>Most steps, rejected ones included, before the solve fails. Default: 1000.</summary>
    public int MaxSteps { get; init => field = value > 0 ? value : throw new ArgumentOutOfRangeException(nameof(MaxSteps), value, $"MaxSteps must be positive, got {value}."); } = 1000;

    private static double Positive(double value, string name)
        => value > 0 && double.IsFinite(value) ? value : throw new ArgumentOutOfRangeException(name, value, $"{name} must be positive and finite, got {value}.");
}

/// <summary>An adaptive solve could not go on: the step became too small, or there were too many.</summary>
public sealed class StepSizeException : ArithmeticException
{
    internal StepSizeException(string reason, double at, double step, double ratio, int attempts)
        : base($"{reason} at {at:g9} with step {step:g3} after {attempts} steps; the last error was {ratio:g3} times what is tolerated.{Advice(ratio)}")
    {
        (At, Step, ErrorRatio, Attempts) = (at, step, ratio, attempts);
    }

    /// <summary>Where the solve stopped, in the integration variable.</summary>
    public double At { get; }

    /// <summary>The step that was to be tried there.</summary>
    public double Step { get; }

    /// <summary>Estimated error of the last step in units of the tolerance; NaN if the field gave no finite value.</summary>
    public double ErrorRatio { get; }

    /// <summary>Steps tried, rejected ones included.</summary>
    public int Attempts { get; }

    private static string Advice(double ratio) => double.IsFinite(ratio)
        ? " Loosen the tolerances (a float32 state cannot do better than about 1e-6), raise StepControl.MaxSteps, or end the grid at a larger rho."
        : " The error was not finite: check the network's weights and dtype, and the guidance scale.";
}
