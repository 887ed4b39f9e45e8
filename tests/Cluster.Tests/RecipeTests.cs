using System.Buffers.Binary;
using System.Text.Json.Nodes;
using AdjointDpm.Client.Commands;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Every recipe of `adpm init` on a real silo, as it is but smaller: the 8 x 8 digits and a few steps. Full figures are in docs/applications.md.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class RecipeTests
{
    private static readonly string Examples = Path.GetDirectoryName(DigitsSpecs.Models)!;

    [Fact]
    public void EveryRecipe_IsTheFileInExamples_AndHolds()
    {
        foreach (var (name, file, _) in Recipes.All)
        {
            var path = Path.Combine(Examples, file);
            Assert.Equal(File.ReadAllText(path), Recipes.Read(name));
            Assert.DoesNotContain(ExperimentDocument.Load(path).Problems, problem => problem.Severity == SpecSeverity.Error);
        }
    }

    [Fact]
    public async Task Recipes_RunSmaller_AndDoWhatTheySay()
    {
        await using var cluster = await RealCluster.StartAsync(1);

        var guided = await RunAsync("guide", spec => spec with { Training = new TrainingSpec { Steps = 5, Shards = 2, SamplesPerShard = 4 } });
        Assert.True(guided.Metrics["classified.after"] > guided.Metrics["classified.before"]);
        Assert.Equal(guided.Metrics["noise.norm.before"], guided.Metrics["noise.norm.after"], 1e-4);
        Assert.True(File.Exists(Path.Combine(guided.ArtifactFolder!, "noise.safetensors")));
        Assert.False(Directory.Exists(Path.Combine(guided.ArtifactFolder!, "model")));

        var attacked = await RunAsync("audit", spec => spec with
        {
            Training = new TrainingSpec { Steps = 4, Shards = 2, SamplesPerShard = 4 },
            Optimizer = spec.Optimizer with { LearningRate = 0.2 },
            // No third classifier was trained at this size: the second is the critic.
            Losses = [spec.Losses[0], spec.Losses[1] with { Classifier = spec.HeldOut!.Classifier }],
            HeldOut = null,
            Train = spec.Train with { Noise = spec.Train.Noise! with { Box = spec.Train.Noise.Box! with { Radius = 0.5 } } },
        });
        Assert.True(attacked.Metrics["audit.rate.after"] > 0, string.Join(", ", attacked.Metrics));
        Assert.True(attacked.Metrics["audit.rate.after"] > attacked.Metrics["audit.randomRate.after"], string.Join(", ", attacked.Metrics));
        Assert.InRange(attacked.Metrics["noise.linf.after"], 0.1, 0.5);
        Assert.Equal("[8,1,8,8]", Shape(attacked, "noise.safetensors", "after"));

        var drawn = await RunAsync("guided-sample", spec => spec with
        {
            Losses = [new LossSpec { Name = LossName.LogProbability, Classifier = Path.Combine(DigitsSpecs.Models, "digits8-classifier"), Label = 3 }],
            HeldOut = spec.HeldOut! with { Samples = 8, Label = 3 },
            Sample = spec.Sample with { Steps = 6, Guidance = 1, Classes = [10], LookAhead = new LookAheadSpec { Steps = 2, Strength = 0.5 } },
        });
        Assert.True(drawn.Metrics["loss.after"] < drawn.Metrics["loss.before"]);
        Assert.Equal(0, drawn.Step);

        var rewarded = await RunAsync("reward", spec => spec with
        {
            Train = spec.Train with { Include = ["*attentions*to_*"] },
            Gradient = spec.Gradient with { Method = GradientName.AdjointMatching },
            HeldOut = spec.HeldOut! with { Samples = 10, Every = 1 },
            Sample = spec.Sample with { Steps = 4 },
            Training = new TrainingSpec { Steps = 2, Shards = 2, SamplesPerShard = 2 },
        });
        Assert.True(rewarded.Metrics["loss.after"] <= rewarded.Metrics["loss.before"]);
        Assert.True(rewarded.Metrics["heldOut.losses.crossEntropy.after"] > 0);
        Assert.Equal(0, rewarded.Metrics["heldOut.distance.before"]);
        // What training does was measured, and is not said to be proven.
        Assert.True(rewarded.Proof is { IsEstimate: true, Passed: true, Method: "adjoint-matching" }, $"{rewarded.Proof}");
        Assert.True(rewarded.Totals!.TrainingSeconds > 0);
        Assert.True(File.Exists(Path.Combine(rewarded.ArtifactFolder!, "lora", "pytorch_lora_weights.safetensors")));

        async Task<TrialSnapshot> RunAsync(string recipe, Func<ExperimentSpec, ExperimentSpec> smaller)
        {
            var spec = ExperimentDocument.Load(Path.Combine(Examples, Recipes.All.First(r => r.Name == recipe).File)).Document!.Spec;
            var small = smaller(spec with
            {
                Model = new ModelSpec { Path = DigitsSpecs.Small.Model.Path },
                Losses = [.. spec.Losses.Select(loss => loss with { Classifier = loss.Classifier is null ? null : Path.Combine(DigitsSpecs.Models, "digits8-classifier") })],
                HeldOut = spec.HeldOut! with
                {
                    Classifier = Path.Combine(DigitsSpecs.Models, "digits8-classifier-heldout"),
                    Losses = spec.HeldOut.Losses is { } losses ? [.. losses.Select(loss => loss with { Classifier = Path.Combine(DigitsSpecs.Models, "digits8-classifier-heldout") })] : null,
                },
                Sample = spec.Sample with { Steps = 4 },
                Parameters = new Dictionary<string, ParameterSpec>(),
                MaxTrials = null,
                Checkpoint = new CheckpointSpec { SheetRows = 1 },
                Failure = DigitsSpecs.Small.Failure,
            });
            var snapshot = await cluster.RunAsync(recipe, small);
            Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason + cluster.Silos[0].Log);
            return Assert.Single(snapshot.Trials);
        }
    }

    /// <summary>The 28 x 28 digits: its target is a picture of that size.</summary>
    [Fact]
    public async Task Invert_RunShorter_ComesNearerToTheTarget()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var spec = ExperimentDocument.Load(Path.Combine(Examples, "invert.yaml")).Document!.Spec;
        var snapshot = await cluster.RunAsync("invert", spec with { Training = spec.Training with { Steps = 8 }, Sample = spec.Sample with { Steps = 6 }, Checkpoint = new CheckpointSpec { SheetRows = 1 } });
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason + cluster.Silos[0].Log);
        var trial = Assert.Single(snapshot.Trials);
        Assert.True(trial.Metrics["loss.after"] < 0.8 * trial.Metrics["loss.before"], $"{trial.Metrics["loss.before"]} {trial.Metrics["loss.after"]}");
        Assert.StartsWith("[11,", Shape(trial, "condition.safetensors", "class_embedding.weight"), StringComparison.Ordinal);
        Assert.True(Directory.Exists(Path.Combine(trial.ArtifactFolder!, "model")));
    }

    /// <summary>The pair of the example, fewer steps: the strokes of the pair's own noise grow.</summary>
    [Fact]
    public async Task InvertEffect_RunShorter_ComesNearerToTheEffect()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var spec = ExperimentDocument.Load(Path.Combine(Examples, "invert-effect.yaml")).Document!.Spec;
        var snapshot = await cluster.RunAsync("invert-effect", spec with { Training = spec.Training with { Steps = 8 }, Sample = spec.Sample with { Steps = 5 }, Checkpoint = new CheckpointSpec { SheetRows = 1 } });
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason + cluster.Silos[0].Log);
        var trial = Assert.Single(snapshot.Trials);
        Assert.True(trial.Metrics["loss.after"] < 0.8 * trial.Metrics["loss.before"], $"{trial.Metrics["loss.before"]} {trial.Metrics["loss.after"]}");
        // Only the row of the four was moved.
        Assert.StartsWith("[11,", Shape(trial, "condition.safetensors", "class_embedding.weight"), StringComparison.Ordinal);
    }

    /// <summary>A tensor's shape as the file's own header has it.</summary>
    internal static string Shape(TrialSnapshot trial, string file, string tensor)
    {
        var bytes = File.ReadAllBytes(Path.Combine(trial.ArtifactFolder!, file));
        return JsonNode.Parse(bytes.AsSpan(8, (int)BinaryPrimitives.ReadInt64LittleEndian(bytes)))![tensor]!["shape"]!.ToJsonString();
    }
}
