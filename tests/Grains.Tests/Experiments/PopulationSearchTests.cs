using System.Globalization;
using AdjointDpm.Grains.Experiments.Searching;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tests.Cluster;

namespace AdjointDpm.Grains.Tests.Experiments;

/// <summary>Searches in generations: NSGA-II for several objectives, population-based training.</summary>
public sealed class PopulationSearchTests
{
    [Fact]
    public void Fronts_AreThoseOfTheDefinition()
    {
        var random = new Random(5);
        var points = Enumerable.Range(0, 200).Select(_ => (IReadOnlyList<double>)[random.Next(12), random.Next(12), random.Next(12)]).ToList();
        Assert.Equal(Enumerable.Range(0, 200).Where(i => !points.Any(other => ParetoFront.Dominates(other, points[i]))), ParetoFront.First(points));
        var fronts = ParetoFront.Fronts(points);
        Assert.Equal(Enumerable.Range(0, 200), fronts.SelectMany(front => front).Order());
        for (var front = 1; front < fronts.Count; front++)
            Assert.All(fronts[front], i => Assert.Contains(fronts[front - 1], before => ParetoFront.Dominates(points[before], points[i])));
        Assert.Equal([double.PositiveInfinity, 1.875, 1, double.PositiveInfinity], ParetoFront.Crowding([[0, 4], [1, 1], [4, 0.5], [4, 0]]));
    }

    /// <summary>Medians of 21 seeds of Optuna 3.1, bench/results/search.md: <c>bench/optuna_front.py 21 240 24</c>.</summary>
    [Theory]
    [InlineData("zdt1", Zdt1OfOptuna)]
    [InlineData("zdt3", Zdt3OfOptuna)]
    public void NsgaII_In240Trials_CoversAsMuchAsOptuna(string function, double optuna)
    {
        var volumes = Enumerable.Range(1, 11).Select(seed => Volume(Front(AlgorithmName.NsgaII, function, seed))).Order().ToArray();
        Assert.True(volumes[5] > optuna, $"{function}: {string.Join(' ', volumes.Select(value => value.ToString("g4", CultureInfo.InvariantCulture)))} beside {optuna} of Optuna");
        Assert.True(volumes[5] > Volume(Front(AlgorithmName.Random, function, 1)));
    }

    private const double Zdt1OfOptuna = 5.369;

    private const double Zdt3OfOptuna = 5.532;

    [Fact]
    public void Pbt_TheWorstGoOnWithTheBest_TheOthersWithTheirOwn()
    {
        var spec = Space(AlgorithmName.Pbt, 3, 32, 1) with { Objectives = null };
        var search = new Search(spec);
        var values = new List<IReadOnlyDictionary<string, string>>();
        double? Objective(int trial) => trial == 5 ? null : Math.Abs(double.Parse(values[trial]["optimizer.beta1"], CultureInfo.InvariantCulture) - 0.7);
        for (var trial = 0; trial < 32; trial++)
        {
            Assert.Equal(trial / 8 * 8, search.Needs(trial));
            values.Add(search.Suggest(trial, earlier => values[earlier], Objective));
            var parent = search.ParentOf(trial, earlier => values[earlier], Objective);
            if (trial < 8)
            {
                Assert.Null(parent);
                continue;
            }
            var first = trial / 8 * 8 - 8;
            var ranked = Enumerable.Range(first, 8).OrderBy(earlier => Objective(earlier) ?? double.PositiveInfinity).ToList();
            if (ranked.IndexOf(trial - 8) < 6)
                Assert.Equal((trial - 8, values[trial - 8]["optimizer.beta1"]), (parent!.Value, values[trial]["optimizer.beta1"]));
            else
                Assert.Contains(parent!.Value, ranked.Take(2));
        }
    }

    [Fact]
    public void SeveralObjectives_AreLearntFromWithTheirSigns()
    {
        var up = Space(AlgorithmName.NsgaII, 2, 96, 1) with { Objectives = [new() { Metric = "a" }, new() { Metric = "b", Goal = Goal.Maximize }] };
        var down = Space(AlgorithmName.NsgaII, 2, 96, 1);
        Assert.Equal(Trials(down, x => [x[0], x[1]]).Select(trial => string.Join(' ', trial.Values.Values)), Trials(up, x => [x[0], -x[1]]).Select(trial => string.Join(' ', trial.Values.Values)));
    }

    private static List<double[]> Front(AlgorithmName name, string function, int seed) => [.. Trials(Space(name, 6, 240, seed), x =>
    {
        var g = 1 + 9 * x.Skip(1).Sum() / (x.Length - 1);
        return [x[0], g * (1 - Math.Sqrt(x[0] / g) - (function == "zdt3" ? x[0] / g * Math.Sin(10 * Math.PI * x[0]) : 0))];
    }).Select(trial => trial.Numbers)];

    private static List<(IReadOnlyDictionary<string, string> Values, double[] Numbers)> Trials(ExperimentSpec spec, Func<double[], double[]> at)
    {
        var (search, trials) = (new Search(spec), new List<(IReadOnlyDictionary<string, string> Values, double[] Numbers)>());
        for (var trial = 0; trial < search.Trials; trial++)
        {
            var values = search.Learns ? search.Suggest(trial, earlier => trials[earlier].Values, earlier => trials[earlier].Numbers) : search.ValuesOf(trial);
            trials.Add((values, at([.. values.Values.Select(value => double.Parse(value, CultureInfo.InvariantCulture))])));
        }
        return trials;
    }

    private static double Volume(List<double[]> points)
    {
        var (area, top) = (0.0, 6.0);
        foreach (var point in points.Where(point => point[0] < 1.1).OrderBy(point => point[0]))
        {
            if (point[1] >= top)
                continue;
            area += (1.1 - point[0]) * (top - point[1]);
            top = point[1];
        }
        return area;
    }

    /// <summary>A cube; the names of the parameters are of no matter here.</summary>
    private static ExperimentSpec Space(AlgorithmName name, int dimensions, int trials, int seed) => TestSpecs.Small with
    {
        Algorithm = new AlgorithmSpec { Name = name, Seed = seed, Population = name is AlgorithmName.NsgaII ? 24 : null },
        Objectives = [new() { Metric = "a" }, new() { Metric = "b" }],
        MaxTrials = trials,
        Parameters = Enumerable.Range(0, dimensions).ToDictionary(d => $"optimizer.beta{d + 1}", _ => new ParameterSpec { Min = 0, Max = 1 }),
    };
}
