namespace AdjointDpm.Schedules;

/// <summary>How much signal and noise a state holds: x = alpha x0 + sigma eps.</summary>
/// <param name="Alpha">Signal coefficient, dimensionless, in (0, 1] for the schedules here.</param>
/// <param name="Sigma">Standard deviation of the noise, in units of x.</param>
public readonly record struct NoiseLevel(double Alpha, double Sigma)
{
    /// <summary>rho = sigma / alpha, the variable that samplers integrate over. Karras et al. call it sigma.</summary>
    public double Rho => Sigma / Alpha;

    /// <summary>Half the log signal-to-noise ratio, lambda = log(alpha / sigma); positive infinity where there is no noise.</summary>
    public double Lambda => Math.Log(Alpha / Sigma);

    /// <summary>The variance-preserving level (alpha² + sigma² = 1) with this rho.</summary>
    /// <param name="rho">sigma / alpha, not negative, infinite for pure noise: alpha = 1 / sqrt(1 + rho²), sigma = rho alpha.</param>
    public static NoiseLevel VariancePreserving(double rho)
    {
        var alpha = 1 / Math.Sqrt(1 + (rho * rho));
        return new(alpha, double.IsPositiveInfinity(rho) ? 1 : rho * alpha);
    }
}
