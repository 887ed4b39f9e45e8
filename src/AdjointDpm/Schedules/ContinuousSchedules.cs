namespace AdjointDpm.Schedules;

/// <summary>The continuous variance-preserving schedule of Song et al. (2021): beta(t) = betaMin + t (betaMax - betaMin) on t in [cleanTime, 1], so that log alpha = -t² (betaMax - betaMin) / 4 - t betaMin / 2 and alpha² + sigma² = 1.</summary>
/// <param name="betaMin">beta(0), per unit time. Default: 0.1.</param>
/// <param name="betaMax">beta(1), per unit time. Default: 20.</param>
/// <param name="cleanTime">Smallest time the network knows, in (0, 1). Default: 1e-3.</param>
public sealed class LinearVp(double betaMin = 0.1, double betaMax = 20, double cleanTime = 1e-3) : NoiseSchedule
{
    /// <inheritdoc/>
    public override double CleanTime => cleanTime;

    /// <inheritdoc/>
    public override double NoisyTime => 1;

    /// <inheritdoc/>
    protected override NoiseLevel LevelAtTime(double time)
    {
        var logAlpha = -(time * time * (betaMax - betaMin) / 4) - (time * betaMin / 2);
        return new(Math.Exp(logAlpha), Math.Sqrt(-Accurate.Expm1(2 * logAlpha)));
    }

    /// <inheritdoc/>
    protected override double TimeAtRho(double rho)
    {
        // The root of the quadratic in its cancellation-free form (Lu et al. 2022).
        var q = 2 * (betaMax - betaMin) * Accurate.Log1p(rho * rho);
        return q / (Math.Sqrt((betaMin * betaMin) + q) + betaMin) / (betaMax - betaMin);
    }
}

/// <summary>The variance-exploding schedule of Karras et al. (2022): alpha = 1 and the network's time is rho itself.</summary>
/// <param name="rhoMin">Least noise the network knows, in units of x0, positive. Default: 0.002.</param>
/// <param name="rhoMax">Most noise the network knows, in units of x0. Default: 80.</param>
public sealed class VarianceExploding(double rhoMin = 0.002, double rhoMax = 80) : NoiseSchedule
{
    /// <inheritdoc/>
    public override double CleanTime => rhoMin;

    /// <inheritdoc/>
    public override double NoisyTime => rhoMax;

    /// <inheritdoc/>
    protected override NoiseLevel LevelAtRho(double rho) => new(1, rho);

    /// <inheritdoc/>
    protected override NoiseLevel LevelAtTime(double time) => new(1, time);

    /// <inheritdoc/>
    protected override double TimeAtRho(double rho) => rho;
}

/// <summary>The straight schedule of flow matching and rectified flow: x = (1 - t) x0 + t eps, from pure noise at t = 1 to no noise at t = 0. Lipman et al. (2023), Liu et al. (2022).</summary>
/// <param name="timeUnit">What the network is told at t = 1: 1, or 1000 for networks trained on a thousandth's scale. Default: 1.</param>
/// <remarks>rho = t / (1 - t) is infinite at t = 1. Samplers take the first step from there in x0, so any may be used; the flow samplers work in t throughout.</remarks>
public sealed class FlowMatching(double timeUnit = 1) : NoiseSchedule
{
    /// <inheritdoc/>
    public override double CleanTime => 0;

    /// <inheritdoc/>
    public override double NoisyTime => timeUnit;

    /// <inheritdoc/>
    protected override NoiseLevel LevelAtRho(double rho) => LevelAtTime(TimeAtRho(rho));

    /// <inheritdoc/>
    protected override NoiseLevel LevelAtTime(double time) => new(1 - (time / timeUnit), time / timeUnit);

    /// <inheritdoc/>
    protected override double TimeAtRho(double rho) => rho > 1 ? timeUnit / (1 + (1 / rho)) : timeUnit * rho / (1 + rho);
}
