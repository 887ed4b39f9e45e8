using System.Collections.Immutable;

namespace AdjointDpm.Samplers;

/// <summary>Coefficients of an explicit Runge–Kutta method, with an embedded error estimate where it has one. Immutable; checks itself.</summary>
/// <remarks>k_i = f(s + c_i h, y + h Σ_j a_ij k_j), y⁺ = y + h Σ b_i k_i, and the local error is about h Σ e_i k_i.</remarks>
public sealed partial class ButcherTableau
{
    /// <summary>A tableau.</summary>
    /// <param name="name">Name for messages.</param>
    /// <param name="order">Order of convergence.</param>
    /// <param name="a">Strictly lower triangular coefficients: row i has i entries.</param>
    /// <param name="b">Weights, one a stage, summing to 1.</param>
    /// <param name="c">Nodes, one a stage: the row sums of a as exact numbers. Default: the sums as computed, which may miss 1 in the last place.</param>
    /// <param name="error">b minus the weights of the embedded method, one a stage, summing to 0. Default: no error estimate.</param>
    /// <param name="errorOrder">Power of h with which the error estimate vanishes, one more than the embedded method's order. Needed with <paramref name="error"/>.</param>
    /// <exception cref="ArgumentException">Shapes disagree, the weights do not sum to 1, the error weights do not sum to 0, or the nodes are no row sums.</exception>
    public ButcherTableau(string name, int order, double[][] a, double[] b, double[]? c = null, double[]? error = null, int errorOrder = 0)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(b);
        if (a.Length != b.Length || a.Where((row, i) => row.Length != i).Any())
            throw new ArgumentException($"Tableau '{name}': row i of a must have i entries, one row for each of the {b.Length} weights.", nameof(a));
        if (Math.Abs(b.Sum() - 1) > 1e-14)
            throw new ArgumentException($"Tableau '{name}': the weights sum to {b.Sum()}, not to 1.", nameof(b));
        c ??= [.. a.Select(row => row.Sum())];
        if (c.Length != a.Length)
            throw new ArgumentException($"Tableau '{name}': there are {c.Length} nodes for {a.Length} stages.", nameof(c));
        for (var i = 0; i < a.Length; i++)
        {
            if (!(Math.Abs(a[i].Sum() - c[i]) <= 1e-14 * (1 + a[i].Sum(Math.Abs))))
                throw new ArgumentException($"Tableau '{name}': row {i} of a sums to {a[i].Sum()}, but its node is {c[i]}.", nameof(c));
        }

        if (error is not null && (error.Length != b.Length || !(Math.Abs(error.Sum()) <= 1e-14 * (1 + error.Sum(Math.Abs)))))
            throw new ArgumentException($"Tableau '{name}': the error weights must be {b.Length} numbers that sum to 0; there are {error.Length}, summing to {error.Sum()}.", nameof(error));
        if (error is not null && errorOrder < 1)
            throw new ArgumentException($"Tableau '{name}': the order of the error estimate must be at least 1, got {errorOrder}.", nameof(errorOrder));
        (Name, Order, ErrorOrder) = (name, order, errorOrder);
        A = [.. a.Select(row => row.ToImmutableArray())];
        (B, C, Error) = ([.. b], [.. c], error is null ? [] : [.. error]);
        FirstSameAsLast = b.Length > 1 && b[^1] == 0 && a[^1].AsSpan().SequenceEqual(b.AsSpan(..^1)) && c[^1] == 1;
        SolutionStages = 1 + Array.FindLastIndex(b, w => w != 0);
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

    /// <summary>Weights of the stages in the estimate of the local error; empty where there is none.</summary>
    public ImmutableArray<double> Error { get; }

    /// <summary>Power of h with which the error estimate vanishes; 0 where there is none.</summary>
    public int ErrorOrder { get; }

    /// <summary>Whether the last stage is the first one of the next step, as its row of A is B. Found from the coefficients.</summary>
    public bool FirstSameAsLast { get; }

    /// <summary>How many stages the result needs; those after serve the error estimate only.</summary>
    public int SolutionStages { get; }

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

    /// <inheritdoc/>
    public override string ToString() => Name;
}
