using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>The variables in which the probability-flow equation is written: a state y = x / scale, an independent variable s, and a prediction that is dy/ds. A value.</summary>
/// <remarks>
/// For x = alpha x0 + sigma eps each choice below makes the equation free of drift, so that plain methods are exponential integrators (Pan et al. 2024, AdjointDPM, equation 9, for rho).
/// Euler's method is DDIM in all of them; methods of higher order differ. Any may be used with any schedule.
/// </remarks>
public sealed class Coordinates
{
    private readonly Func<NoiseLevel, double> _scale, _variable;
    private readonly Func<double, double> _rho;
    private readonly Func<NoiseLevel, bool> _isRegular;

    private Coordinates(string name, Prediction slope, Func<NoiseLevel, double> scale, Func<NoiseLevel, double> variable, Func<double, double> rho, Func<NoiseLevel, bool> isRegular, bool snapsToGrid = false)
        => (Name, Slope, _scale, _variable, _rho, _isRegular, SnapsToGrid) = (name, slope, scale, variable, rho, isRegular, snapsToGrid);

    /// <summary>y = x / alpha over rho = sigma / alpha, with slope eps. Where there is no signal slot 0 holds x / sigma.</summary>
    public static Coordinates Rho { get; } = new("rho", Prediction.Epsilon, l => l.Alpha > 0 ? l.Alpha : l.Sigma, l => l.Rho, s => s, l => l is { Alpha: > 0, Sigma: > 0 });

    /// <summary>y = x / sigma over 1 / rho = alpha / sigma, with slope x0. Where there is no noise slot 0 holds x / alpha.</summary>
    public static Coordinates Data { get; } = new("data", Prediction.Sample, l => l.Sigma > 0 ? l.Sigma : l.Alpha, l => l.Alpha / l.Sigma, s => 1 / s, l => l.Sigma > 0);

    /// <summary>y = x / (alpha + sigma) over sigma / (alpha + sigma), with slope eps - x0: x and time themselves on a <see cref="FlowMatching"/> schedule. Regular from pure noise to no noise.</summary>
    public static Coordinates Flow { get; } = new("flow", Prediction.Flow, l => l.Alpha + l.Sigma, l => l.Sigma / (l.Alpha + l.Sigma), s => s / (1 - s), _ => true);

    /// <summary>Name for messages.</summary>
    public string Name { get; }

    /// <summary>The prediction that is dy/ds.</summary>
    public Prediction Slope { get; }

    /// <summary>Whether points between grid points are evaluated at the nearest grid point instead.</summary>
    internal bool SnapsToGrid { get; }

    /// <summary>x / y at a level: alpha, sigma, or alpha + sigma.</summary>
    public double Scale(NoiseLevel level) => _scale(level);

    /// <summary>The independent variable s at a level: rho, 1 / rho, or sigma / (alpha + sigma).</summary>
    public double Variable(NoiseLevel level) => _variable(level);

    /// <summary>Whether state and slope exist at a level. A step that ends at another is DDIM's.</summary>
    public bool IsRegular(NoiseLevel level) => _isRegular(level);

    /// <summary>These coordinates with every evaluation moved to the grid point nearest in rho, as a table lookup does.</summary>
    internal Coordinates Snapped() => new(Name + "-snapped", Slope, _scale, _variable, _rho, _isRegular, snapsToGrid: true);

    /// <summary>The point a part c of the way from one grid point to another, in the independent variable; the ends are the points themselves, exact to the bit.</summary>
    internal GridPoint Between(TimeGrid grid, GridPoint from, GridPoint to, double c)
    {
        if (c == 0)
            return from;
        if (c == 1)
            return to;
        double a = Variable(from.Level), b = Variable(to.Level), rho = _rho(a + (c * (b - a)));
        return SnapsToGrid ? grid.Points.MinBy(p => Math.Abs(p.Rho - rho)) : grid.Schedule.PointAt(rho);
    }
}
