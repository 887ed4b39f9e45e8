using System.Globalization;
using AdjointDpm.Grains.Experiments.Searching;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tests.Cluster;

namespace AdjointDpm.Grains.Tests.Experiments;

public sealed class SearchTests
{
    [Fact]
    public void Grid_IsAllCombinationsWithTheLastFastest_AndNoneTwice()
    {
        var search = new Search(TestSpecs.Small with
        {
            Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Values = ["0.1", "0.2"] }, ["training.steps"] = new() { Values = ["1", "2", "3"] } },
        });
        Assert.Equal(6, search.Trials);
        Assert.Equal(["0.1/1", "0.1/2", "0.1/3", "0.2/1", "0.2/2", "0.2/3"], Enumerable.Range(0, 6).Select(i => string.Join('/', search.ValuesOf(i).Values)));
    }

    [Fact]
    public void Grid_MaxTrials_CutsIt()
    {
        var search = new Search(TestSpecs.Small with { MaxTrials = 2, Parameters = new Dictionary<string, ParameterSpec> { ["training.steps"] = new() { Values = ["1", "2", "3"] } } });
        Assert.Equal(2, search.Trials);
    }

    [Fact]
    public void NoParameters_IsOneTrial() => Assert.Equal(1, new Search(TestSpecs.Small).Trials);

    [Fact]
    public void Random_IsAFunctionOfSeedTrialAndPath()
    {
        ExperimentSpec Spec(int seed, int trials) => TestSpecs.Small with
        {
            Algorithm = new AlgorithmSpec { Name = AlgorithmName.Random, Seed = seed },
            MaxTrials = trials,
            Parameters = new Dictionary<string, ParameterSpec>
            {
                ["optimizer.learningRate"] = new() { Distribution = Distribution.LogUniform, Min = 1e-5, Max = 1e-1 },
                ["training.shards"] = new() { Distribution = Distribution.IntUniform, Min = 1, Max = 4 },
                ["sample.solver"] = new() { Values = ["ddim", "heun"] },
            },
        };
        var few = new Search(Spec(1, 5));
        var many = new Search(Spec(1, 200));
        for (var trial = 0; trial < 5; trial++)
            Assert.Equal(few.ValuesOf(trial), many.ValuesOf(trial));
        Assert.NotEqual(few.ValuesOf(0), new Search(Spec(2, 5)).ValuesOf(0));

        var drawn = Enumerable.Range(0, 200).Select(many.ValuesOf).ToList();
        var rates = drawn.Select(values => double.Parse(values["optimizer.learningRate"], CultureInfo.InvariantCulture)).ToList();
        Assert.All(rates, rate => Assert.InRange(rate, 1e-5, 1e-1));
        Assert.InRange(rates.Count(rate => rate < 1e-3), 70, 130);
        Assert.Equal(["1", "2", "3", "4"], drawn.Select(values => values["training.shards"]).Distinct().Order());
        Assert.Equal(["ddim", "heun"], drawn.Select(values => values["sample.solver"]).Distinct().Order());
    }

    [Fact]
    public void Values_BindIntoTheSpec()
    {
        var spec = TestSpecs.Small with { Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Values = ["0.25"] } } };
        var json = SpecOverrides.Apply(ExperimentSpecJson.Serialize(spec), new Search(spec).ValuesOf(0));
        Assert.Equal(0.25, ExperimentSpecJson.Deserialize(json).Optimizer.LearningRate);
    }
}
