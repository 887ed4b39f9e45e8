using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>An explicit Runge–Kutta method on dy/drho = eps(alpha y, t(rho)), with y = x / alpha.</summary>
/// <param name="name">Short name.</param>
/// <param name="tableau">Coefficients.</param>
/// <remarks>In these variables the linear drift of the probability-flow equation is gone (Pan et al. 2024, AdjointDPM, equation 9), so plain methods are exponential integrators. A step to rho = 0 is Euler's: the noise is not defined where there is none (as in Karras et al. 2022, algorithm 1).</remarks>
public sealed class RungeKutta(string name, ButcherTableau tableau) : Sampler
{
    /// <inheritdoc/>
    public override string Name => name;

    /// <inheritdoc/>
    public override int Order => tableau.Order;

    /// <inheritdoc/>
    public override ButcherTableau Backward => tableau;

    /// <inheritdoc/>
    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var (from, to) = (grid.Points[step], grid.Points[step + 1]);
        var h = to.Rho - from.Rho;
        var t = from.Rho == 0 || to.Rho == 0 ? ButcherTableau.Euler : tableau;
        // A last stage that serves only the error estimate is not evaluated on a fixed grid.
        var evaluations = new Evaluation[t.SolutionStages];
        for (var i = 0; i < evaluations.Length; i++)
        {
            // Ends of the step keep the grid's own times, exact to the bit.
            var at = t.C[i] == 0 ? from : t.C[i] == 1 ? to : grid.Schedule.PointAt(from.Rho + (t.C[i] * h));
            evaluations[i] = new(at, [Term.Slot(0), .. t.A[i].Select((a, j) => Term.Evaluation(j, h * a))]);
        }

        return new(evaluations, [[Term.Slot(0), .. t.B.Select((b, i) => Term.Evaluation(i, h * b))]]);
    }
}
