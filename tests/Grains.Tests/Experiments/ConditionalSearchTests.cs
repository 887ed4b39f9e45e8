using System.Globalization;
using AdjointDpm.Grains.Experiments.Searching;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tests.Cluster;

namespace AdjointDpm.Grains.Tests.Experiments;

/// <summary>Parameters that are searched only where others have certain values.</summary>
public sealed class ConditionalSearchTests
{
    [Fact]
    public void Grid_DoesNotMultiplyWhatIsNotSearched()
    {
        var search = new Search(TestSpecs.Small with
        {
            Parameters = new Dictionary<string, ParameterSpec>
            {
                ["sample.solver"] = new() { Values = ["ddim", "heun", "rk4"] },
                ["sample.steps"] = new() { Values = ["4", "8"], When = new Dictionary<string, string> { ["sample.solver"] = "[\"ddim\",\"heun\"]" } },
                ["optimizer.name"] = new() { Values = ["adamw", "sgd"] },
                ["optimizer.beta1"] = new() { Values = ["0.8", "0.9"], When = new Dictionary<string, string> { ["optimizer.name"] = "adamw" } },
            },
        });
        Assert.Equal((2 + 2 + 1) * (2 + 1), search.Trials);
        var points = Enumerable.Range(0, search.Trials).Select(trial => string.Join(' ', search.ValuesOf(trial).Select(pair => $"{pair.Key}={pair.Value}"))).ToList();
        Assert.Equal(points.Count, points.Distinct().Count());
        Assert.Equal("sample.solver=rk4 optimizer.name=sgd", points[^1]);
        Assert.DoesNotContain(points, point => point.Contains("rk4", StringComparison.Ordinal) == point.Contains("sample.steps", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(AlgorithmName.Random)]
    [InlineData(AlgorithmName.Sobol)]
    [InlineData(AlgorithmName.Tpe)]
    [InlineData(AlgorithmName.Gp)]
    [InlineData(AlgorithmName.NsgaII)]
    public void EverySearch_HasTheParameterExactlyWhereItIsAsked_AndFindsTheBranch(AlgorithmName name)
    {
        var spec = TestSpecs.Small with
        {
            Algorithm = new AlgorithmSpec { Name = name, Seed = 2, Population = name == AlgorithmName.NsgaII ? 12 : null },
            MaxTrials = 96,
            Parameters = new Dictionary<string, ParameterSpec>
            {
                ["optimizer.name"] = new() { Values = ["adamw", "sgd"] },
                ["optimizer.beta1"] = new() { Min = 0, Max = 0.99, When = new Dictionary<string, string> { ["optimizer.name"] = "adamw" } },
                ["optimizer.learningRate"] = new() { Min = 1e-5, Max = 1, Distribution = Distribution.LogUniform },
            },
        };
        // Sgd is never as good as AdamW with beta1 near 0.5.
        var results = LearningSearchTests.Run(spec, values =>
            Math.Abs(Math.Log10(double.Parse(values["optimizer.learningRate"], CultureInfo.InvariantCulture)) + 3)
            + (values["optimizer.name"] == "sgd" ? 1 : 4 * Math.Abs(double.Parse(values["optimizer.beta1"], CultureInfo.InvariantCulture) - 0.5)));
        Assert.All(results, result => Assert.Equal(result.Values["optimizer.name"] == "adamw", result.Values.ContainsKey("optimizer.beta1")));
        if (name is AlgorithmName.Tpe or AlgorithmName.Gp or AlgorithmName.NsgaII)
        {
            Assert.True(results.Min(result => result.Value) < 0.25, $"{results.Min(result => result.Value)}");
            Assert.Equal("adamw", results.MinBy(result => result.Value).Values["optimizer.name"]);
        }
    }
}
