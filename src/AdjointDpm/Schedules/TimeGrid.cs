namespace AdjointDpm.Schedules;

/// <summary>A point of a grid: the time that the network is told and the noise level there.</summary>
/// <param name="Time">Time in the schedule's unit.</param>
/// <param name="Level">Signal and noise coefficients.</param>
public readonly record struct GridPoint(double Time, NoiseLevel Level)
{
    /// <summary>sigma / alpha at this point.</summary>
    public double Rho => Level.Rho;
}

/// <summary>Where a sampler stops on its way: strictly monotone noise levels, with their times, on one schedule.</summary>
/// <remarks>Sampling goes from noise to sample, so rho falls along the grid; a rising grid inverts the sampler (DDIM inversion).</remarks>
public sealed partial class TimeGrid
{
    private readonly GridPoint[] _points;

    /// <summary>A grid through given noise levels.</summary>
    /// <param name="schedule">Schedule that the levels belong to.</param>
    /// <param name="rhos">At least two strictly monotone values of sigma / alpha, from noise to sample.</param>
    /// <exception cref="ArgumentException">Too few points, or points that are not numbers, not negative and strictly monotone.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The schedule never has one of these noise levels.</exception>
    public TimeGrid(NoiseSchedule schedule, params ReadOnlySpan<double> rhos)
        : this(schedule, Locate(schedule, rhos))
    {
    }

    /// <summary>A grid through points whose times are given too, as when a network must see exactly the integers it was trained with.</summary>
    /// <param name="schedule">Schedule for the levels between the points, where Runge–Kutta stages fall.</param>
    /// <param name="points">At least two points with strictly monotone rho, from noise to sample.</param>
    /// <exception cref="ArgumentException">Too few points, or points that are not numbers, not negative and strictly monotone.</exception>
    public TimeGrid(NoiseSchedule schedule, params ReadOnlySpan<GridPoint> points)
    {
        ArgumentNullException.ThrowIfNull(schedule);
        if (points.Length < 2)
            throw new ArgumentException($"A time grid needs at least two points, got {points.Length}.", nameof(points));
        var rises = points[1].Rho > points[0].Rho;
        for (var n = 0; n < points.Length; n++)
        {
            var rho = points[n].Rho;
            var monotone = n == 0 || (rises ? rho > points[n - 1].Rho : rho < points[n - 1].Rho);
            // Pure noise, rho = infinity, can only be an end: monotony sees to that.
            if (double.IsNaN(rho) || rho < 0 || !monotone)
                throw new ArgumentException($"Grid points must be numbers, not negative and strictly monotone, but rho[{n}] = {rho}{(n > 0 ? $" follows {points[n - 1].Rho}" : "")}. Check that rhoMin < rhoMax and that no point is repeated.", nameof(points));
        }

        Schedule = schedule;
        _points = points.ToArray();
    }

    /// <summary>Schedule that the grid lies on.</summary>
    public NoiseSchedule Schedule { get; }

    /// <summary>The points, in the order of sampling.</summary>
    public IReadOnlyList<GridPoint> Points => _points;

    /// <summary>Number of steps, one less than points.</summary>
    public int Steps => _points.Length - 1;

    /// <summary>Where sampling starts: the level of x_T.</summary>
    public GridPoint Start => _points[0];

    /// <summary>Where sampling ends: the level of the sample x_0.</summary>
    public GridPoint End => _points[^1];

    /// <summary>The same points the other way: from sample to noise.</summary>
    public TimeGrid Reversed()
    {
        var points = _points.ToArray();
        Array.Reverse(points);
        return new(Schedule, points);
    }

    private static GridPoint[] Locate(NoiseSchedule schedule, ReadOnlySpan<double> rhos)
    {
        ArgumentNullException.ThrowIfNull(schedule);
        var points = new GridPoint[rhos.Length];
        for (var n = 0; n < rhos.Length; n++)
        {
            if (double.IsNaN(rhos[n]) || rhos[n] < 0)
                throw new ArgumentException($"Grid points must be numbers, not negative and strictly monotone, but rho[{n}] = {rhos[n]}.", nameof(rhos));
            points[n] = schedule.PointAt(rhos[n]);
        }

        return points;
    }
}
