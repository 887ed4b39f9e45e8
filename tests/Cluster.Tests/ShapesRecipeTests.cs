using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Nodes;
using AdjointDpm.Client.Commands;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Every recipe of `adpm init` on the small Stable Diffusion of the examples: what each file's comment says to change for it, and fewer steps.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class ShapesRecipeTests
{
    private static readonly string Examples = Path.GetDirectoryName(DigitsSpecs.Models)!;

    [Fact]
    public async Task Recipes_OnTextToImage_DoWhatTheySay()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var (classifier, judge) = (Classifier(Path.Combine(cluster.Folder, "colours"), 4), Classifier(Path.Combine(cluster.Folder, "judge"), 6));
        var orange = Path.Combine(Examples, "data", "orange-square.png");

        // Red squares are to be seen as yellow, by the noise alone.
        var guided = await RunAsync("guide", spec => Seen(spec, 1) with { HeldOut = spec.HeldOut! with { Label = 1 } });
        Falls(guided, "loss");
        Assert.Equal("[4,4,8,8]", RecipeTests.Shape(guided, "noise.safetensors", "after"));

        // Two steps on all weights of so small a network: shorter ones than the example's, and judged on the noise that they were made on.
        var styled = await RunAsync("stylize", spec => spec with { Sample = spec.Sample with { Classes = [0, 1] }, Optimizer = spec.Optimizer with { LearningRate = 1e-5 }, Training = spec.Training with { FixedNoise = true } });
        Falls(styled, "loss");
        Assert.True(File.Exists(Path.Combine(styled.ArtifactFolder!, "model", "unet", "diffusion_pytorch_model.safetensors")));

        var inverted = await RunAsync("invert", spec => spec with { Train = spec.Train with { Positions = [1, 2] }, Sample = spec.Sample with { Prompts = ["a red square on a dark ground"] }, Training = spec.Training with { Steps = 4, Shards = 1, SamplesPerShard = 1 } });
        Falls(inverted, "loss");
        Assert.StartsWith("[1,", RecipeTests.Shape(inverted, "condition.safetensors", "prompt_embeds"), StringComparison.Ordinal);

        var audited = await RunAsync("audit", spec => spec with
        {
            Sample = spec.Sample with { Classes = [0, 1] },
            Losses = [spec.Losses[0] with { Confidence = 100 }],
            Train = spec.Train with { Noise = spec.Train.Noise! with { Box = spec.Train.Noise.Box! with { Radius = 0.2 } } },
        });
        Assert.InRange(audited.Metrics["noise.linf.after"], 0.01, 0.2 + 1e-6);
        Assert.InRange(audited.Metrics["audit.rate.after"], 0, 1);
        Falls(audited, "loss");

        var drawn = await RunAsync("guided-sample", spec => Seen(spec, 1) with { HeldOut = spec.HeldOut! with { Label = 1, Samples = 4 }, Sample = spec.Sample with { Steps = 4, LookAhead = new LookAheadSpec { Steps = 2, Strength = 0.3 } } });
        Falls(drawn, "loss");
        Assert.Equal(0, drawn.Step);

        var rewarded = await RunAsync("reward", spec => Seen(spec, 1) with { Train = spec.Train with { Include = ["*attn*to_*"] }, HeldOut = spec.HeldOut! with { Label = 1, Samples = 4, Every = 1 } });
        Falls(rewarded, "heldOut.loss");
        foreach (var file in new[] { "pytorch_lora_weights.safetensors", "lora.safetensors" })
            Assert.True(File.Exists(Path.Combine(rewarded.ArtifactFolder!, "lora", file)), file);

        static void Falls(TrialSnapshot trial, string name) => Assert.True(trial.Metrics[name + ".after"] < trial.Metrics[name + ".before"], string.Join(", ", trial.Metrics));

        static ExperimentSpec Seen(ExperimentSpec spec, int label) => spec with { Losses = [spec.Losses[0] with { Name = LossName.LogProbability, Label = label, Reference = null }] };

        async Task<TrialSnapshot> RunAsync(string recipe, Func<ExperimentSpec, ExperimentSpec> change)
        {
            var spec = ExperimentDocument.Load(Path.Combine(Examples, Recipes.All.First(r => r.Name == recipe).File)).Document!.Spec;
            var small = change(spec with
            {
                Model = new ModelSpec { Path = Path.Combine(DigitsSpecs.Models, "shapes-sd") },
                Losses = [.. spec.Losses.Select(loss => loss with { Classifier = loss.Classifier is null ? null : classifier, Reference = loss.Reference is null ? null : orange })],
                HeldOut = spec.HeldOut is null ? null : spec.HeldOut with { Classifier = judge, Samples = 4, Losses = null },
                Sample = spec.Sample with { Steps = 3, Classes = null, Prompts = ["a red square on a dark ground", "a yellow square on a dark ground"] },
                Training = spec.Training with { Steps = 2, Shards = 2, SamplesPerShard = 2 },
                Parameters = new Dictionary<string, ParameterSpec>(),
                MaxTrials = null,
                Checkpoint = new CheckpointSpec { SheetRows = 1 },
                Failure = DigitsSpecs.Small.Failure,
            });
            var snapshot = await cluster.RunAsync(recipe, small);
            Assert.True(snapshot.Summary.State == RunState.Succeeded, $"{recipe}: {snapshot.Reason}{cluster.Silos[0].Log}");
            return Assert.Single(snapshot.Trials);
        }
    }

    /// <summary>A network that tells red (0) from yellow (1) by how green a picture is, so sure of it as <paramref name="scale"/> says: a folder as people bring it.</summary>
    private static string Classifier(string folder, float scale)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "config.json"), """
            {"_class_name": "SequentialClassifier", "in_channels": 3, "layers": [
              {"type": "conv2d", "name": "colours", "out_channels": 3, "kernel_size": 8, "stride": 8},
              {"type": "silu"},
              {"type": "global_average_pool"},
              {"type": "linear", "name": "logits", "out_features": 2}]}
            """);
        // Means of squares of 8 x 8 pixels, each colour by itself.
        var colours = new float[3 * 3 * 64];
        for (var c = 0; c < 3; c++)
            Array.Fill(colours, scale / 64, ((c * 3) + c) * 64, 64);
        (string Name, int[] Shape, float[] Values)[] weights = [("colours.weight", [3, 3, 8, 8], colours), ("colours.bias", [3], new float[3]), ("logits.weight", [2, 3], [scale, -scale, 0, 0, scale, 0]), ("logits.bias", [2], new float[2])];
        var (header, at) = (new JsonObject(), 0);
        foreach (var (name, shape, values) in weights)
        {
            header[name] = new JsonObject { ["dtype"] = "F32", ["shape"] = new JsonArray([.. shape.Select(s => (JsonNode)s)]), ["data_offsets"] = new JsonArray(at, at + (4 * values.Length)) };
            at += 4 * values.Length;
        }

        var json = Encoding.UTF8.GetBytes(header.ToJsonString());
        var length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        File.WriteAllBytes(Path.Combine(folder, "model.safetensors"), [.. length, .. json, .. weights.SelectMany(w => w.Values).SelectMany(BitConverter.GetBytes)]);
        return folder;
    }
}
