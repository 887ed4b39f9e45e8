using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Grains.Workers.Engine;

namespace AdjointDpm.Grains.Tests.Workers;

public sealed class ExperimentMemoryTests
{
    [Fact]
    public void Cost_IsThatOfAllTrials_EvaluationsApart()
    {
        var spec = new ExperimentSpec
        {
            Model = new ModelSpec { Path = "/m" },
            Losses = [new LossSpec { Name = LossName.PixelDistance }],
            Training = new TrainingSpec { Steps = 10, Shards = 3, SamplesPerShard = 4 },
            HeldOut = new HeldOutSpec { Samples = 9, Every = 5 },
            Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Values = ["1e-3", "1e-4"] }, ["sample.steps"] = new() { Values = ["2", "4", "8"] } },
        };
        var cost = ExperimentMemory.CostOf(spec, new WorkStatistics { ForwardNfe = 8, BackwardNfe = 7, Vjps = 6, ForwardSeconds = 1, LossSeconds = 0.5, BackwardSeconds = 2 });
        // 6 trials of 10 steps of 3 shards; held-out samples in 3 parts before, after steps 5 and 10, and after.
        Assert.Equal((6, 10, 3), (cost.Trials, cost.Steps, cost.Shards));
        Assert.Equal((180 * 8, 180 * 7, 180 * 6, 6 * 4 * 3 * 8), (cost.ForwardNfe, cost.BackwardNfe, cost.Vjps, cost.EvaluationNfe));
        Assert.Equal((3.5, (180 * 3.5) + (72 * 1.5)), (cost.ShardSeconds, cost.DeviceSeconds));
    }

    [Theory]
    [InlineData("vendor_id\t: GenuineIntel\nmodel name\t: A Processor @ 2.0GHz\nmodel name\t: A Processor @ 2.0GHz", "A Processor @ 2.0GHz")]
    [InlineData("model name\t:\nprocessor\t: 0", null)]
    [InlineData("", null)]
    public void Hardware_IsTheProcessorsName_OrItsArchitecture(string lines, string? expected) =>
        Assert.Equal(expected ?? System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture.ToString(), Hardware.Model(lines.Split('\n')));

    [Fact]
    public void Secret_IsReadFromItsVariable_AndFromNoOther()
    {
        Assert.Equal("s3cret", SecretReference.Read("env:ADPM_SECRET_REWARD", name => name == "ADPM_SECRET_REWARD" ? "s3cret" : null));
        foreach (var wrong in new[] { "env:AWS_SECRET_ACCESS_KEY", "env:ADPM_SECRET_", "ADPM_SECRET_REWARD", "env:ADPM_SECRET_A\n", "s3cret" })
            Assert.Contains("refers to no secret", Assert.Throws<InvalidDataException>(() => SecretReference.Read(wrong, _ => "s3cret")).Message, StringComparison.Ordinal);
        var missing = Assert.Throws<InvalidDataException>(() => SecretReference.Read("env:ADPM_SECRET_REWARD", _ => null)).Message;
        Assert.Contains("ADPM_SECRET_REWARD, which the environment of this silo does not have", missing, StringComparison.Ordinal);
    }
}
