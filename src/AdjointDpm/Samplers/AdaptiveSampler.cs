using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>The variable over which an adaptive sampler steps.</summary>
public enum IntegrationVariable
{
    /// <summary>log rho, so that steps are in proportion to the noise level: dy/dlog rho = rho eps. A grid must end above rho = 0, or pass a point above it before.</summary>
    LogRho,

    /// <summary>rho itself: dy/drho = eps.</summary>
    Rho,
}

/// <summary>An embedded Runge–Kutta pair that chooses its own steps on the probability-flow equation dy/drho = eps(alpha y, t(rho)), y = x / alpha.</summary>
/// <remarks>
/// <para>The grid's points are where the sampler must land: two are enough, start and end. A last point at rho = 0 is reached by one step of Euler's method, as by <see cref="RungeKutta"/>.</para>
/// <para>A solve first finds its steps. Gradients are then those of the discrete solution with the accepted steps held: the choice of steps is not differentiated. All samples of a batch share the steps.</para>
/// </remarks>
public sealed class AdaptiveSampler : Sampler
{
    /// <summary>An adaptive sampler.</summary>
    /// <param name="tableau">A pair with an error estimate, such as <see cref="ButcherTableau.Dopri5"/>.</param>
    /// <param name="control">Tolerances and controller.</param>
    /// <param name="variable">What is stepped over. Default: log rho.</param>
    /// <exception cref="ArgumentException">The tableau has no error estimate.</exception>
    public AdaptiveSampler(ButcherTableau tableau, StepControl control, IntegrationVariable variable = IntegrationVariable.LogRho)
    {
        ArgumentNullException.ThrowIfNull(tableau);
        ArgumentNullException.ThrowIfNull(control);
        if (tableau.Error.IsEmpty)
            throw new ArgumentException($"Tableau '{tableau.Name}' has no error estimate, so it cannot choose its steps. Use {ButcherTableau.Bosh3}, {ButcherTableau.Dopri5}, {ButcherTableau.Tsit5} or {ButcherTableau.Dopri8}.", nameof(tableau));
        (Tableau, Control, Variable) = (tableau, control, variable);
    }

    /// <summary>The pair.</summary>
    public ButcherTableau Tableau { get; }

    /// <summary>Tolerances and controller.</summary>
    public StepControl Control { get; }

    /// <summary>What is stepped over.</summary>
    public IntegrationVariable Variable { get; }

    /// <inheritdoc/>
    public override string Name => $"adaptive-{Tableau.Name}";

    /// <inheritdoc/>
    public override int Order => Tableau.Order;

    /// <inheritdoc/>
    public override ButcherTableau Backward => Tableau;

    /// <summary>Not for this sampler: its steps depend on the state.</summary>
    /// <exception cref="NotSupportedException">Always. Sample, and step over the accepted grid of the result.</exception>
    public override StepPlan Plan(TimeGrid grid, int step)
        => throw new NotSupportedException($"Sampler '{Name}' chooses its steps while it runs, so they cannot be planned from a grid. Use Sampling, whose results tell the accepted grid; for fixed steps use RungeKutta with the tableau.");

    /// <summary>The numbers of one step of the pair between two points of an interval.</summary>
    internal StepPlan Plan(Interval interval, double from, double to)
    {
        var h = to - from;
        var evaluations = new Evaluation[Tableau.SolutionStages];
        var factors = new double[evaluations.Length];
        for (var i = 0; i < evaluations.Length; i++)
        {
            var (at, factor) = interval.At(Tableau.C[i] == 1 ? to : from + (Tableau.C[i] * h));
            factors[i] = factor;
            evaluations[i] = new(at, [Term.Slot(0), .. Tableau.A[i].Select((a, j) => Term.Evaluation(j, h * a * factors[j]))]);
        }

        return new(evaluations, [[Term.Slot(0), .. factors.Select((f, i) => Term.Evaluation(i, h * Tableau.B[i] * f))]]);
    }
}

/// <summary>A stretch between two grid points, in the integration variable. The ends map to the points themselves, exact to the bit.</summary>
internal sealed class Interval(NoiseSchedule schedule, GridPoint start, GridPoint end, IntegrationVariable variable)
{
    /// <summary>Value of the integration variable at the first point.</summary>
    public double From { get; } = Of(start.Rho, variable);

    /// <summary>Value of the integration variable at the last point.</summary>
    public double To { get; } = Of(end.Rho, variable);

    /// <summary>The point at a value of the variable, and drho/dvariable there.</summary>
    public (GridPoint Point, double Factor) At(double s)
    {
        var point = s == From ? start : s == To ? end : schedule.PointAt(variable == IntegrationVariable.LogRho ? Math.Exp(s) : s);
        return (point, variable == IntegrationVariable.LogRho ? point.Rho : 1);
    }

    private static double Of(double rho, IntegrationVariable variable) => variable == IntegrationVariable.LogRho ? Math.Log(rho) : rho;
}

/// <summary>The steps that an adaptive solve accepted, as a sampler on the accepted grid.</summary>
internal sealed class AcceptedSteps(AdaptiveSampler sampler, IReadOnlyList<StepPlan> plans) : Sampler
{
    public override string Name => sampler.Name;

    public override int Order => sampler.Order;

    public override ButcherTableau Backward => sampler.Tableau;

    /// <summary>What was stepped over.</summary>
    public IntegrationVariable Variable => sampler.Variable;

    public override StepPlan Plan(TimeGrid grid, int step) => plans[step];
}
