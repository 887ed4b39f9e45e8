namespace AdjointDpm.Schedules;

/// <summary>How a grid's points are spread over the schedule.</summary>
public enum GridKind
{
    /// <summary>Uniform in lambda, the half log signal-to-noise ratio.</summary>
    LogSnr,

    /// <summary>Uniform in time.</summary>
    Time,

    /// <summary>Karras et al. (2022), equation 5: uniform in rho^(1/7).</summary>
    Karras,

    /// <summary>diffusers' "leading": trained steps 0, k, 2k, …, shifted by an offset; ends without noise.</summary>
    Leading,

    /// <summary>diffusers' "trailing": trained steps N-1, N-1-k, …; ends without noise.</summary>
    Trailing,

    /// <summary>diffusers' "linspace": rounded trained steps from N-1 to 0; ends without noise.</summary>
    Linspace,
}

public sealed partial class TimeGrid
{
    /// <summary>A grid over the whole schedule.</summary>
    /// <param name="kind">How points are spread.</param>
    /// <param name="schedule">Schedule; <see cref="GridKind.Leading"/>, <see cref="GridKind.Trailing"/> and <see cref="GridKind.Linspace"/> need a <see cref="DiscreteVp"/>.</param>
    /// <param name="steps">Number of steps, at least 1.</param>
    /// <exception cref="ArgumentException">The kind needs a discrete schedule.</exception>
    public static TimeGrid Create(GridKind kind, NoiseSchedule schedule, int steps) => kind switch
    {
        GridKind.LogSnr => LogSnr(schedule, steps),
        GridKind.Time => UniformTime(schedule, steps),
        GridKind.Karras => Karras(schedule, steps),
        GridKind.Leading or GridKind.Trailing or GridKind.Linspace => schedule is DiscreteVp vp
            ? Diffusers(vp, kind, steps)
            : throw new ArgumentException($"A {kind} grid picks trained steps and needs a discrete schedule, not {schedule.GetType().Name}.", nameof(schedule)),
        _ => throw new ArgumentOutOfRangeException(nameof(kind), kind, "Unknown grid kind."),
    };

    /// <summary>Uniform in lambda = log(alpha / sigma), over the whole schedule unless bounds are given.</summary>
    /// <param name="schedule">Schedule.</param>
    /// <param name="steps">Number of steps, at least 1.</param>
    /// <param name="rhoMin">Last rho, positive. Default: the schedule's.</param>
    /// <param name="rhoMax">First rho. Default: the schedule's.</param>
    /// <exception cref="ArgumentOutOfRangeException">No steps, a last rho of 0, a first of infinity, or bounds that the schedule does not have.</exception>
    public static TimeGrid LogSnr(NoiseSchedule schedule, int steps, double? rhoMin = null, double? rhoMax = null)
        => Spread(schedule, steps, rhoMin, rhoMax, Math.Log, Math.Exp);

    /// <summary>Karras et al. (2022), equation 5, over the whole schedule unless bounds are given.</summary>
    /// <param name="schedule">Schedule.</param>
    /// <param name="steps">Number of steps, at least 1.</param>
    /// <param name="rhoMin">Last rho, positive. Default: the schedule's.</param>
    /// <param name="rhoMax">First rho. Default: the schedule's.</param>
    /// <param name="exponent">Karras' own rho. Default: 7.</param>
    /// <exception cref="ArgumentOutOfRangeException">No steps, a last rho of 0, a first of infinity, or bounds that the schedule does not have.</exception>
    public static TimeGrid Karras(NoiseSchedule schedule, int steps, double? rhoMin = null, double? rhoMax = null, double exponent = 7)
        => Spread(schedule, steps, rhoMin, rhoMax, r => Math.Pow(r, 1 / exponent), u => Math.Pow(u, exponent));

    /// <summary>Uniform in time, from the schedule's noisiest time to its cleanest.</summary>
    /// <param name="schedule">Schedule.</param>
    /// <param name="steps">Number of steps, at least 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">No steps.</exception>
    public static TimeGrid UniformTime(NoiseSchedule schedule, int steps)
    {
        CheckSteps(steps);
        double noisy = schedule.NoisyTime, clean = schedule.CleanTime;
        var points = new GridPoint[steps + 1];
        for (var n = 0; n <= steps; n++)
        {
            var time = n == steps ? clean : noisy + ((clean - noisy) * n / steps);
            points[n] = new(time, schedule.At(time));
        }

        return new(schedule, points);
    }

    /// <summary>The steps of flow-matching samplers: u = 1 - n / steps, moved towards noise as u shift / (1 + (shift - 1) u), over the whole schedule. Esser et al. (2024), equation 23.</summary>
    /// <param name="schedule">Schedule.</param>
    /// <param name="steps">Number of steps, at least 1.</param>
    /// <param name="shift">More than 1 spends more steps at high noise, as for large images: 3 in Stable Diffusion 3. Default: 1, uniform in time.</param>
    /// <exception cref="ArgumentOutOfRangeException">No steps, or a shift that is not positive.</exception>
    public static TimeGrid Flow(FlowMatching schedule, int steps, double shift = 1)
    {
        ArgumentNullException.ThrowIfNull(schedule);
        CheckSteps(steps);
        if (!(shift > 0 && double.IsFinite(shift)))
            throw new ArgumentOutOfRangeException(nameof(shift), shift, $"The shift must be positive and finite, got {shift}.");
        var points = new GridPoint[steps + 1];
        for (var n = 0; n <= steps; n++)
        {
            var u = (double)(steps - n) / steps;
            var time = schedule.NoisyTime * (shift * u / (1 + ((shift - 1) * u)));
            points[n] = new(time, schedule.At(time));
        }

        return new(schedule, points);
    }

    private static TimeGrid Spread(NoiseSchedule schedule, int steps, double? rhoMin, double? rhoMax, Func<double, double> to, Func<double, double> from)
    {
        CheckSteps(steps);
        double first = rhoMax ?? schedule.RhoMax, last = rhoMin ?? schedule.RhoMin;
        if (!(last > 0 && double.IsFinite(first)))
            throw new ArgumentOutOfRangeException(nameof(rhoMin), last, $"This grid is spread over powers or logarithms of rho, which must run from a finite value to one above 0, but runs from {first} to {last}. Give rhoMax and rhoMin, or use UniformTime.");
        double a = to(first), b = to(last);
        var rhos = new double[steps + 1];
        for (var n = 1; n < steps; n++)
            rhos[n] = from(a + ((b - a) * n / steps));
        // The ends are taken as given: exp(log x) is not x in the last place.
        (rhos[0], rhos[steps]) = (first, last);
        return new(schedule, rhos);
    }

    private static void CheckSteps(int steps)
    {
        if (steps < 1)
            throw new ArgumentOutOfRangeException(nameof(steps), steps, $"A grid needs at least one step, got {steps}.");
    }
}
