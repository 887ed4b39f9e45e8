namespace AdjointDpm.Schedules;

/// <summary>Relation between the time that a network is told and the noise level of its input. Host doubles throughout.</summary>
/// <remarks>
/// <para>Time is in the unit the network was trained with: 0 … 999 for <see cref="DiscreteVp"/>, 0 … 1 for <see cref="LinearVp"/>, rho itself for <see cref="VarianceExploding"/>. It grows with the noise.</para>
/// <para>Levels strictly inside the range invert exactly up to rounding: <c>TimeAt(At(t).Rho) = t</c>. rho = 0 (no noise at all) belongs to every schedule and maps to <see cref="CleanTime"/>, as a last point of a grid where the network is never evaluated.</para>
/// </remarks>
public abstract class NoiseSchedule
{
    /// <summary>Time of the least noise that the network knows.</summary>
    public abstract double CleanTime { get; }

    /// <summary>Time of the most noise that the network knows.</summary>
    public abstract double NoisyTime { get; }

    /// <summary>rho at <see cref="CleanTime"/>.</summary>
    public double RhoMin => At(CleanTime).Rho;

    /// <summary>rho at <see cref="NoisyTime"/>.</summary>
    public double RhoMax => At(NoisyTime).Rho;

    /// <summary>Noise level at a time.</summary>
    /// <param name="time">Time in the schedule's unit; need not be whole.</param>
    /// <exception cref="ArgumentOutOfRangeException">The time lies outside [<see cref="CleanTime"/>, <see cref="NoisyTime"/>].</exception>
    public NoiseLevel At(double time)
    {
        if (!(time >= CleanTime && time <= NoisyTime * (1 + Rounding)))
            throw new ArgumentOutOfRangeException(nameof(time), time, $"Time {time} lies outside the schedule, [{CleanTime}, {NoisyTime}]. Use times in the unit the network was trained with.");
        return LevelAtTime(Math.Min(time, NoisyTime));
    }

    /// <summary>Time at which the schedule has this rho.</summary>
    /// <param name="rho">sigma / alpha: 0, or in [<see cref="RhoMin"/>, <see cref="RhoMax"/>] up to rounding.</param>
    /// <exception cref="ArgumentOutOfRangeException">The schedule never has this rho.</exception>
    public double TimeAt(double rho)
    {
        if (rho == 0)
            return CleanTime;
        double least = RhoMin, most = RhoMax;
        if (!(rho >= least * (1 - Rounding) && rho <= most * (1 + Rounding)))
            throw new ArgumentOutOfRangeException(nameof(rho), rho, $"The schedule has no noise level rho = {rho}: it spans [{least}, {most}], and 0 as an end point. Keep grids inside that span.");
        return rho <= least ? CleanTime : rho >= most ? NoisyTime : Math.Clamp(TimeAtRho(rho), CleanTime, NoisyTime);
    }

    /// <summary>Time and noise level at a rho: what a network needs to be evaluated there.</summary>
    /// <param name="rho">As for <see cref="TimeAt"/>.</param>
    /// <exception cref="ArgumentOutOfRangeException">The schedule never has this rho.</exception>
    public GridPoint PointAt(double rho) => new(TimeAt(rho), LevelAtRho(rho));

    /// <summary>Noise level with this rho: variance-preserving unless the schedule says otherwise.</summary>
    protected virtual NoiseLevel LevelAtRho(double rho) => NoiseLevel.VariancePreserving(rho);

    /// <summary>Noise level at a time already checked to lie in range.</summary>
    protected abstract NoiseLevel LevelAtTime(double time);

    /// <summary>Time of a rho already checked to lie in range.</summary>
    protected abstract double TimeAtRho(double rho);

    // End points computed twice may differ in the last place; that must not throw.
    private const double Rounding = 1e-9;
}
