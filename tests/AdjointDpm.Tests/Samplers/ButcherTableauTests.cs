using AdjointDpm.Samplers;

namespace AdjointDpm.Tests.Samplers;

public sealed class ButcherTableauTests
{
    private static readonly ButcherTableau[] All =
    [
        ButcherTableau.Euler, ButcherTableau.Midpoint, ButcherTableau.Heun, ButcherTableau.Rk4, ButcherTableau.ThreeEighths,
        ButcherTableau.Bosh3, ButcherTableau.Dopri5, ButcherTableau.Tsit5, ButcherTableau.Dopri8,
    ];

    private static readonly int[] TreesUpTo = [1, 2, 4, 8, 17, 37, 85, 200];

    public static TheoryData<string> Names() => [.. All.Select(t => t.Name)];

    // Butcher's conditions: for every rooted tree with at most p nodes, Σ b_i Φ_i(tree) = 1 / γ(tree). 1, 2, 4, 8, 17, 37, 85 and 200 trees.
    [Theory]
    [MemberData(nameof(Names))]
    public void Tableau_EveryRootedTreeUpToItsOrder_MeetsTheOrderCondition(string name)
    {
        var tableau = Named(name);
        var trees = RootedTree.UpTo(tableau.Order);
        Assert.Equal(TreesUpTo[tableau.Order - 1], trees.Count);
        foreach (var tree in trees)
            Assert.Equal(1 / tree.Density, tree.Weight(tableau, tableau.B), 2e-14);
    }

    [Theory]
    [InlineData("bosh3")]
    [InlineData("dopri5")]
    [InlineData("tsit5")]
    [InlineData("dopri8")]
    public void EmbeddedMethod_HasOneOrderLess_AndNotMore(string name)
    {
        var tableau = Named(name);
        Assert.Equal(tableau.Order, tableau.ErrorOrder);
        double[] embedded = [.. tableau.B.Zip(tableau.Error, (b, e) => b - e)];
        Assert.All(RootedTree.UpTo(tableau.ErrorOrder - 1), tree => Assert.Equal(1 / tree.Density, tree.Weight(tableau, embedded), 2e-14));
        Assert.Contains(RootedTree.UpTo(tableau.ErrorOrder), tree => Math.Abs((1 / tree.Density) - tree.Weight(tableau, embedded)) > 1e-6);
    }

    [Fact]
    public void FirstSameAsLast_IsFoundFromTheCoefficients()
    {
        Assert.Equal(["bosh3", "dopri5", "tsit5"], All.Where(t => t.FirstSameAsLast).Select(t => t.Name));
        Assert.Equal([3, 6, 6, 13], new[] { ButcherTableau.Bosh3, ButcherTableau.Dopri5, ButcherTableau.Tsit5, ButcherTableau.Dopri8 }.Select(t => t.SolutionStages));
    }

    // Slope of the error over step sizes, log against log, where neither coarseness nor rounding rules.
    [Theory]
    [MemberData(nameof(Names))]
    public void FixedSteps_ErrorFallsWithTheOrder(string name)
    {
        var tableau = Named(name);
        // A problem on which the leading error term does not nearly cancel.
        var problem = Detest.Problems.Single(p => p.Name == (name == "tsit5" ? "D1" : "B5"));
        var truth = NumberSpace.Solve(ButcherTableau.Dopri8, new() { Relative = 1e-14, Absolute = 1e-14, MaxSteps = 100_000 }, problem.Field, problem.Start, 0, 4).End;
        var coarsest = tableau.Order switch { 1 => 1024, 2 => 256, 3 => 128, 4 => 64, 5 => 96, _ => 16 };
        var points = new List<(double X, double Y)>();
        for (var n = coarsest; n <= 4 * coarsest; n = n * 3 / 2)
        {
            var end = problem.Start;
            for (var i = 0; i < n; i++)
                end = Step(tableau, problem.Field, 4.0 * i / n, 4.0 / n, end);
            points.Add((Math.Log(4.0 / n), Math.Log(end.Zip(truth, (a, b) => Math.Abs(a - b)).Max())));
        }

        double mx = points.Average(p => p.X), my = points.Average(p => p.Y);
        var slope = points.Sum(p => (p.X - mx) * (p.Y - my)) / points.Sum(p => (p.X - mx) * (p.X - mx));
        Assert.InRange(slope, tableau.Order - 0.15, tableau.Order + 0.15);
    }

    [Fact]
    public void Tableau_OfWrongCoefficients_SaysWhichAndWhy()
    {
        Assert.Contains("sum to 0.9", Assert.Throws<ArgumentException>(() => new ButcherTableau("t", 1, [[]], [0.9])).Message);
        Assert.Contains("row 1 of a sums to 0.5, but its node is 0.6", Assert.Throws<ArgumentException>(() => new ButcherTableau("t", 2, [[], [0.5]], [0, 1], [0, 0.6])).Message);
        Assert.Contains("sum to 0", Assert.Throws<ArgumentException>(() => new ButcherTableau("t", 2, [[], [0.5]], [0, 1], error: [0, 1], errorOrder: 2)).Message);
    }

    private static ButcherTableau Named(string name) => All.Single(t => t.Name == name);

    private static double[] Step(ButcherTableau tableau, Action<double, double[], double[]> field, double t, double h, double[] y)
    {
        var slopes = new double[tableau.B.Length][];
        for (var i = 0; i < slopes.Length; i++)
        {
            var at = Combine(tableau.A[i].AsSpan());
            field(t + (h * tableau.C[i]), at, slopes[i] = new double[y.Length]);
        }

        return Combine(tableau.B.AsSpan());

        double[] Combine(ReadOnlySpan<double> weights)
        {
            var sum = (double[])y.Clone();
            for (var j = 0; j < weights.Length; j++)
            {
                for (var k = 0; k < sum.Length; k++)
                    sum[k] += h * weights[j] * slopes[j][k];
            }

            return sum;
        }
    }
}

/// <summary>A rooted tree: what an elementary differential of a Runge–Kutta method looks like.</summary>
internal sealed record RootedTree(IReadOnlyList<RootedTree> Children)
{
    public int Nodes { get; } = 1 + Children.Sum(c => c.Nodes);

    /// <summary>γ of the tree.</summary>
    public double Density { get; } = (1 + Children.Sum(c => c.Nodes)) * Children.Aggregate(1.0, (product, c) => product * c.Density);

    public static IReadOnlyList<RootedTree> UpTo(int nodes)
    {
        var trees = new List<RootedTree>();
        for (var n = 1; n <= nodes; n++)
            trees.AddRange([.. Forests(trees, n - 1, trees.Count - 1).Select(f => new RootedTree(f))]);
        return trees;
    }

    public double Weight(ButcherTableau tableau, IReadOnlyList<double> b) => Stages(tableau).Zip(b, (phi, w) => phi * w).Sum();

    // Φ_i: the product over children of Σ_j a_ij Φ_j(child).
    private double[] Stages(ButcherTableau tableau)
    {
        double[] product = [.. tableau.B.Select(_ => 1.0)];
        foreach (var child in Children)
        {
            var inner = child.Stages(tableau);
            for (var i = 0; i < product.Length; i++)
                product[i] *= tableau.A[i].Select((a, j) => a * inner[j]).Sum();
        }

        return product;
    }

    // Multisets of known trees with so many nodes in all.
    private static IEnumerable<IReadOnlyList<RootedTree>> Forests(List<RootedTree> known, int nodes, int last)
    {
        if (nodes == 0)
        {
            yield return [];
            yield break;
        }

        for (var i = last; i >= 0; i--)
        {
            if (known[i].Nodes > nodes)
                continue;
            foreach (var rest in Forests(known, nodes - known[i].Nodes, i))
                yield return [known[i], .. rest];
        }
    }
}
