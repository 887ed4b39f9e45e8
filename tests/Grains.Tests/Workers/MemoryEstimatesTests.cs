using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Tests.Models;

namespace AdjointDpm.Grains.Tests.Workers;

/// <summary>Plans of experiments on text models from their configuration.</summary>
public sealed class MemoryEstimatesTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Plan_FromTheConfiguration_NeedsNoWeightsAndKnowsTheSpecsOwnWay()
    {
        var spec = Spec() with { Train = new TrainSpec { Target = TrainTarget.Lora, Include = ["*attn*to_*"], Rank = 2 } };
        foreach (var weights in Directory.GetFiles(spec.Model.Path, "*.safetensors", SearchOption.AllDirectories))
            File.Delete(weights);
        var plan = Plan(spec with { Model = spec.Model with { Checkpointing = true } }, null);
        Assert.True(plan.IsEstimated);
        Assert.Equal((2, 3), (plan.Samples, plan.Steps));
        Assert.Equal("discrete + checkpointing", Assert.Single(plan.Methods, m => m.IsConfigured).Method);
        // Heun evaluates twice a step.
        var heun = Plan(spec with { Sample = spec.Sample with { Solver = SolverName.Heun, Grid = GridName.LogSnr } }, null);
        Assert.Equal(2 * plan.Methods.Single(m => m.Method == "discrete").Evaluations, heun.Methods.Single(m => m.Method == "discrete").Evaluations);
        var least = plan.Methods.Min(m => m.PeakBytes) + plan.WeightBytes;
        Assert.Contains("least", Assert.Throws<InsufficientMemoryException>(() => Plan(spec, least - 1)).Message, StringComparison.OrdinalIgnoreCase);
        Assert.Single(Plan(spec, least).Methods, m => m.IsChosen);
    }

    private static ShardMemory Plan(ExperimentSpec spec, long? budget) =>
        ExperimentMemory.Plan(new PlanRequest(ExperimentSpecJson.Serialize(spec), budget) { FromConfiguration = true }, cancellationToken: TestContext.Current.CancellationToken);

    private ExperimentSpec Spec()
    {
        using var model = TinyModels.Make("SD1");
        StableDiffusionFolder.Save(_folder["model"], model);
        return new()
        {
            Model = new ModelSpec { Path = _folder["model"] },
            Sample = new SampleSpec { Steps = 3, Guidance = 3, Prompts = ["a photo of a cat"], Height = 32, Width = 32 },
            Losses = [new LossSpec { Name = LossName.TotalVariation }],
            Training = new TrainingSpec { SamplesPerShard = 2, Shards = 1, Seed = 5 },
        };
    }
}
