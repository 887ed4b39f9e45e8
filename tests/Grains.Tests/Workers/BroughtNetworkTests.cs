using System.Runtime.InteropServices;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Grains.Workers.Engine;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Tests.Models;

namespace AdjointDpm.Grains.Tests.Workers;

/// <summary>Networks that others trained as victims, judges and eyes of a style, through the engine that experiments run on. They are not part of the repository: where the folder is absent the tests say so.</summary>
public sealed class BroughtNetworkTests(ITestOutputHelper output) : IDisposable
{
    private static readonly string Shared = Path.GetFullPath(Path.Combine(ReferenceFolder.Root(), "..", "shared"));
    private static readonly string Examples = Path.Combine(ReferenceFolder.Root(), "examples");

    private readonly TemporaryFolder _folder = new();
    private readonly GradientEngine _engine = new("cpu:0");

    public void Dispose()
    {
        _engine.Dispose();
        _folder.Dispose();
    }

    /// <summary>A painting's texture by Tiny Darknet's Gram layers, on what a small Stable Diffusion decodes: the gradient through decoder, sampler and text model lowers it.</summary>
    [Theory]
    [InlineData("shapes-sd")]
    [InlineData("tiny-sd")]
    public void Painting_OnDecodedPictures_HasAGradientThatLowersItsLoss(string model)
    {
        if (Absent())
            return;
        var spec = new ExperimentSpec
        {
            Model = new ModelSpec { Path = model == "tiny-sd" ? Path.Combine(Shared, "fixtures", model) : Path.Combine(Examples, "models", model) },
            Train = new TrainSpec { Target = TrainTarget.Noise },
            Sample = new SampleSpec { Steps = 3, Guidance = 2, Prompts = ["a drawing of a red circle on a dark ground"] },
            Losses =
            [
                new LossSpec { Name = LossName.GramStyle, Classifier = Brought("tiny-darknet", "tiny_darknet_imagenet"), Layers = ["leaky_1", "leaky_2", "leaky_4", "leaky_8"], Reference = Path.Combine(Shared, "pretrained", "style_starry_night.jpg"), Resize = 64, Cutouts = 2 },
            ],
            Training = new TrainingSpec { SamplesPerShard = 1, Shards = 1, Seed = 3, Steps = 1 },
        };
        var plan = new TrialPlan(spec, "");
        var start = Numbers(_engine.Prepare(plan, CancellationToken.None).Parameters);
        var (before, gradient) = At(plan, start);
        var size = gradient.Max(Math.Abs);
        Assert.True(size > 0 && float.IsFinite(size));
        // Along the signs, as far as an attack's first step.
        var lowered = new[] { 0.02f, 0.005f, 0.001f }.Min(step => At(plan, [.. start.Zip(gradient, (x, g) => x - (step * Math.Sign(g)))]).Loss);
        Assert.True(lowered < before, $"{before} {lowered}");
    }

    /// <summary>A perceptron of dense layers as the victim, a net of drawings as the eye of a content loss.</summary>
    [Fact]
    public void DigitsPerceptronAndDoodleNet_AreVictimAndEye()
    {
        if (Absent())
            return;
        var (victim, eye) = (Brought("mnist-mlp", "mnist_mlp_classifier"), Brought("doodlenet", "doodlenet_quickdraw345"));
        var spec = new ExperimentSpec
        {
            Model = new ModelSpec { Path = Path.Combine(Examples, "models", "mnist-dpm") },
            Train = new TrainSpec { Target = TrainTarget.Noise, Noise = new NoiseTrainSpec { Step = NoiseStepName.Sign, Box = new NoiseBoxSpec { Norm = NoiseBoxNorm.Linf, Radius = 0.3 } } },
            Sample = new SampleSpec { Steps = 4 },
            Losses =
            [
                new LossSpec { Name = LossName.Margin, Classifier = victim, Goal = AuditGoalName.Untargeted, Confidence = 1 },
                new LossSpec { Name = LossName.Content, Weight = 0.1, Classifier = eye },
            ],
            HeldOut = new HeldOutSpec { Classifier = Path.Combine(Examples, "models", "mnist-classifier-heldout") },
            Training = new TrainingSpec { SamplesPerShard = 5, Shards = 1, Seed = 3, Steps = 6 },
        };
        var plan = new TrialPlan(spec, "");
        var theta = Numbers(_engine.Prepare(plan, CancellationToken.None).Parameters);
        var before = Evaluate(plan, theta);
        // Content is compared with the sample of the noise that it began with.
        Assert.Equal(0, before["content"], 1e-9);
        Assert.True(before["classified"] >= 3, $"the perceptron sees {before["classified"]} of 5");
        for (var step = 0; step < 6; step++)
        {
            var gradient = At(plan, theta).Gradient;
            theta = [.. theta.Zip(gradient, (x, g) => x - (0.05f * Math.Sign(g)))];
        }
        var after = Evaluate(plan, theta);
        Assert.True(after["margin"] < before["margin"], $"{before["margin"]} {after["margin"]}");
        Assert.True(after["audit.success"] > 0);
        Assert.True(after["content"] > 0);
    }

    private (double Loss, float[] Gradient) At(TrialPlan plan, float[] theta)
    {
        var at = _engine.Differentiate(plan, Version(theta), 0, 0, CancellationToken.None);
        return (at.Sums["loss"], Numbers(at.Gradient));
    }

    private IReadOnlyDictionary<string, double> Evaluate(TrialPlan plan, float[] theta) => _engine.Evaluate(plan, Version(theta), 0, plan.Spec.Training.SamplesPerShard, CancellationToken.None).Sums;

    private static ParameterVersion Version(float[] theta)
    {
        var bytes = MemoryMarshal.AsBytes<float>(theta).ToArray();
        return new(TensorReference.HashOf(bytes), bytes);
    }

    private static float[] Numbers(byte[] bytes) => MemoryMarshal.Cast<byte, float>(bytes).ToArray();

    /// <summary>A description of examples/classifiers with its weights beside it.</summary>
    private string Brought(string name, string weights)
    {
        var folder = Directory.CreateDirectory(_folder[name]).FullName;
        File.Copy(Path.Combine(Examples, "classifiers", name, "config.json"), Path.Combine(folder, "config.json"));
        File.Copy(Path.Combine(Shared, "pretrained", weights + ".safetensors"), Path.Combine(folder, "model.safetensors"));
        return folder;
    }

    private bool Absent()
    {
        if (Directory.Exists(Path.Combine(Shared, "pretrained")) && Directory.Exists(Path.Combine(Shared, "fixtures")))
            return false;
        output.WriteLine($"The published networks are not beside the repository ({Shared}), so nothing was run.");
        Assert.False(Directory.Exists(Path.Combine(Shared, "pretrained")) && Directory.Exists(Path.Combine(Shared, "fixtures")));
        return true;
    }
}
