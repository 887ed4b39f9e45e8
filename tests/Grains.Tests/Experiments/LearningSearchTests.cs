using System.Globalization;
using AdjointDpm.Grains.Experiments.Searching;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tests.Cluster;

namespace AdjointDpm.Grains.Tests.Experiments;

/// <summary>Searches that learn from results, and points that fill a space evenly.</summary>
public sealed class LearningSearchTests
{
    private static readonly Func<double, double, double> Branin = (x, y) =>
        Math.Pow(y - 5.1 / (4 * Math.PI * Math.PI) * x * x + 5 / Math.PI * x - 6, 2) + 10 * (1 - 1 / (8 * Math.PI)) * Math.Cos(x) + 10 - 0.39788735772973816;

    [Fact]
    public void Sobol_HasThePointsOfItsTables_AndEveryDimensionIsEven()
    {
        // scipy 1.10: qmc.Sobol(d=21, scramble=False).random(64), the first points of two dimensions and 64 times point 61.
        Assert.Equal([0, 0.5, 0.75, 0.25, 0.375, 0.875, 0.625, 0.125], Enumerable.Range(0, 8).Select(point => Sobol.At(point, 0)));
        Assert.Equal([0, 0.5, 0.25, 0.75, 0.625, 0.125, 0.875, 0.375], Enumerable.Range(0, 8).Select(point => Sobol.At(point, 2)));
        Assert.Equal([49, 35, 7, 13, 7, 57, 53, 57, 5, 21, 43, 27, 51, 33, 37, 33, 53, 9, 13, 31, 31], Enumerable.Range(0, 21).Select(dimension => 64 * Sobol.At(61, dimension)));
        for (var dimension = 0; dimension < Sobol.MostDimensions; dimension++)
            foreach (var shift in new[] { 0UL, 0x123456789ABCDEF0UL })
                Assert.Equal(Enumerable.Range(0, 256), Enumerable.Range(0, 256).Select(point => (int)(256 * Sobol.At(point, dimension, shift))).Order());
        Assert.Equal(SearchRules.MostSobolParameters, Sobol.MostDimensions);
    }

    [Fact]
    public void Sobol_FillsTheSpaceMoreEvenlyThanDraws()
    {
        int Empty(AlgorithmName name)
        {
            var search = new Search(Spec(name, 256, 1));
            var cells = Enumerable.Range(0, 256).Select(trial => Point(search.ValuesOf(trial))).Select(p => ((int)((p.X + 5) / 15 * 15.999), (int)(p.Y / 15 * 15.999))).ToHashSet();
            return 256 - cells.Count;
        }

        // Draws leave 256/e cells empty; the rounding of values to six digits may move a point over a border.
        Assert.InRange(Empty(AlgorithmName.Sobol), 0, 20);
        Assert.InRange(Empty(AlgorithmName.Random), 70, 120);
    }

    /// <summary>Upper quartiles of Optuna's samplers on the same function, bench/results/search.md; of CMA-ES a bound of our own.</summary>
    [Theory]
    [InlineData(AlgorithmName.Tpe, 0.169)]
    [InlineData(AlgorithmName.Gp, 6.1e-5)]
    [InlineData(AlgorithmName.CmaEs, 0.2)]
    public void Branin_In100Trials_IsBelow(AlgorithmName name, double regret)
    {
        var regrets = Enumerable.Range(1, 5).Select(seed => Run(Spec(name, 100, seed), values => Branin(Point(values).X, Point(values).Y)).Min(result => result.Value!.Value)).Order().ToArray();
        Assert.True(regrets[2] < regret, $"Regrets of five seeds: {string.Join(", ", regrets.Select(value => value.ToString("g3", CultureInfo.InvariantCulture)))}");
    }

    [Theory]
    [InlineData(AlgorithmName.Tpe)]
    [InlineData(AlgorithmName.Gp)]
    public void ListedValuesAndFailures_AreLearntFrom(AlgorithmName name)
    {
        var (lateBest, lateFailed) = (0, 0);
        for (var seed = 1; seed <= 3; seed++)
        {
            var spec = Spec(name, 60, seed) with
            {
                Parameters = new Dictionary<string, ParameterSpec>
                {
                    ["sample.solver"] = new() { Values = ["ddim", "heun", "rk4", "midpoint"] },
                    ["training.shards"] = new() { Distribution = Distribution.IntUniform, Min = 1, Max = 20 },
                    ["optimizer.learningRate"] = new() { Distribution = Distribution.LogUniform, Min = 1e-6, Max = 1 },
                },
            };
            // One solver always fails; of the others rk4 is the best.
            var results = Run(spec, values => values["sample.solver"] == "heun" ? null
                : (values["sample.solver"] == "rk4" ? 0 : 3) + Math.Abs(int.Parse(values["training.shards"], CultureInfo.InvariantCulture) - 7) / 4.0 + Math.Abs(Math.Log10(double.Parse(values["optimizer.learningRate"], CultureInfo.InvariantCulture)) + 3));
            lateBest += results.Skip(30).Count(result => result.Values["sample.solver"] == "rk4");
            lateFailed += results.Skip(30).Count(result => result.Values["sample.solver"] == "heun");
            Assert.True(results.Min(result => result.Value) < 0.7);
            Assert.All(results, result => Assert.InRange(int.Parse(result.Values["training.shards"], CultureInfo.InvariantCulture), 1, 20));
        }
        // Draws would have each in a quarter of the ninety.
        Assert.InRange(lateBest, 39, 90);
        Assert.InRange(lateFailed, 0, 18);
    }

    [Theory]
    [InlineData(AlgorithmName.Tpe)]
    [InlineData(AlgorithmName.Gp)]
    [InlineData(AlgorithmName.CmaEs)]
    public void WhoEndsFirst_ChangesNothing(AlgorithmName name)
    {
        var spec = Spec(name, 40, 7) with { MaxConcurrentTrials = 4 };
        var expected = Run(spec, Objective).Select(result => result.Values).ToList();
        foreach (var order in new[] { 1, 2, 3 })
        {
            // Four at a time, ending in an order of their own; the search is begun anew in between, as after a crash.
            var random = new Random(order);
            var values = new IReadOnlyDictionary<string, string>[40];
            var ended = new bool[40];
            var (next, running) = (0, new List<int>());
            var search = new Search(spec);
            while (ended.Contains(false))
            {
                while (next < 40 && running.Count < 4 && Enumerable.Range(0, search.Needs(next)).All(trial => ended[trial]))
                {
                    values[next] = search.Suggest(next, trial => values[trial], trial => ended[trial] ? Objective(values[trial]) : 1e6);
                    running.Add(next++);
                }
                var ends = running[random.Next(running.Count)];
                running.Remove(ends);
                ended[ends] = true;
                if (random.Next(5) == 0)
                    search = new Search(spec);
            }
            Assert.Equal(expected, values);
        }

        static double? Objective(IReadOnlyDictionary<string, string> values) => Branin(Point(values).X, Point(values).Y);
    }

    [Fact]
    public void Maximize_IsMinimizeOfTheNegative()
    {
        var spec = Spec(AlgorithmName.Tpe, 40, 1);
        var up = Run(spec with { Objective = new ObjectiveSpec { Goal = Goal.Maximize } }, values => -Branin(Point(values).X, Point(values).Y));
        Assert.Equal(Run(spec, values => Branin(Point(values).X, Point(values).Y)).Select(result => result.Values), up.Select(result => result.Values));
    }

    internal static List<(IReadOnlyDictionary<string, string> Values, double? Value)> Run(ExperimentSpec spec, Func<IReadOnlyDictionary<string, string>, double?> objective)
    {
        var search = new Search(spec);
        var results = new List<(IReadOnlyDictionary<string, string> Values, double? Value)>();
        for (var trial = 0; trial < search.Trials; trial++)
        {
            var values = search.Learns ? search.Suggest(trial, earlier => results[earlier].Values, earlier => results[earlier].Value) : search.ValuesOf(trial);
            results.Add((values, objective(values)));
        }
        return results;
    }

    private static (double X, double Y) Point(IReadOnlyDictionary<string, string> values) =>
        (double.Parse(values["optimizer.beta1"], CultureInfo.InvariantCulture), double.Parse(values["optimizer.beta2"], CultureInfo.InvariantCulture));

    /// <summary>Branin's square; the names of the parameters are of no matter here.</summary>
    private static ExperimentSpec Spec(AlgorithmName name, int trials, int seed) => TestSpecs.Small with
    {
        Algorithm = new AlgorithmSpec { Name = name, Seed = seed },
        MaxTrials = trials,
        Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.beta1"] = new() { Min = -5, Max = 10 }, ["optimizer.beta2"] = new() { Min = 0, Max = 15 } },
    };
}
