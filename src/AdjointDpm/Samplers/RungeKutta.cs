using System.Collections.Immutable;
using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>Coefficients of an explicit Runge–Kutta method. Immutable; checks itself.</summary>
public sealed class ButcherTableau
{
    /// <summary>A tableau.</summary>
    /// <param name="name">Name for messages.</param>
    /// <param name="order">Order of convergence.</param>
    /// <param name="a">Strictly lower triangular coefficients: row i has i entries.</param>
    /// <param name="b">Weights, one a stage, summing to 1.</param>
    /// <exception cref="ArgumentException">Shapes disagree or the weights do not sum to 1.</exception>
    public ButcherTableau(string name, int order, double[][] a, double[] b)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        if (a.Length != b.Length || a.Where((row, i) => row.Length != i).Any())
            throw new ArgumentException($"Tableau '{name}': row i of a must have i entries, one row for each of the {b.Length} weights.", nameof(a));
        if (Math.Abs(b.Sum() - 1) > 1e-14)
            throw new ArgumentException($"Tableau '{name}': the weights sum to {b.Sum()}, not to 1.", nameof(b));
        (Name, Order) = (name, order);
        A = [.. a.Select(row => row.ToImmutableArray())];
        B = [.. b];
        C = [.. a.Select(row => row.Sum())];
    }

    /// <summary>Name for messages.</summary>
    public string Name { get; }

    /// <summary>Order of convergence.</summary>
    public int Order { get; }

    /// <summary>Stage coefficients, strictly lower triangular.</summary>
    public ImmutableArray<ImmutableArray<double>> A { get; }

    /// <summary>Weights of the stages in the result.</summary>
    public ImmutableArray<double> B { get; }

    /// <summary>Where in the step each stage is evaluated, from 0 to 1: the row sums of A.</summary>
    public ImmutableArray<double> C { get; }

    /// <summary>Euler's method, order 1.</summary>
    public static ButcherTableau Euler { get; } = new("euler", 1, [[]], [1]);

    /// <summary>The explicit midpoint method, order 2.</summary>
    public static ButcherTableau Midpoint { get; } = new("midpoint", 2, [[], [0.5]], [0, 1]);

    /// <summary>Heun's method (explicit trapezoid), order 2.</summary>
    public static ButcherTableau Heun { get; } = new("heun", 2, [[], [1]], [0.5, 0.5]);

    /// <summary>The classical method, order 4.</summary>
    public static ButcherTableau Rk4 { get; } = new("rk4", 4, [[], [0.5], [0, 0.5], [0, 0, 1]], [1.0 / 6, 1.0 / 3, 1.0 / 3, 1.0 / 6]);

    /// <summary>Kutta's 3/8 rule, order 4.</summary>
    public static ButcherTableau ThreeEighths { get; } = new("rk4-38", 4, [[], [1.0 / 3], [-1.0 / 3, 1], [1, -1, 1]], [0.125, 0.375, 0.375, 0.125]);
}

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
        var evaluations = new Evaluation[t.B.Length];
        for (var i = 0; i < evaluations.Length; i++)
        {
            // Ends of the step keep the grid's own times, exact to the bit.
            var at = t.C[i] == 0 ? from : t.C[i] == 1 ? to : grid.Schedule.PointAt(from.Rho + (t.C[i] * h));
            evaluations[i] = new(at, [Term.Slot(0), .. t.A[i].Select((a, j) => Term.Evaluation(j, h * a))]);
        }

        return new(evaluations, [[Term.Slot(0), .. t.B.Select((b, i) => Term.Evaluation(i, h * b))]]);
    }
}
