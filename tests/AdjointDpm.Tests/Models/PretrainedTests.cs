using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Networks that others trained and published, against their outputs in PyTorch. They are not part of the repository: where the folder is absent the tests say so.</summary>
public sealed class PretrainedTests(ITestOutputHelper output)
{
    internal static readonly string Folder = Path.GetFullPath(Path.Combine(ReferenceFolder.Root(), "..", "shared", "pretrained"));

    [Fact]
    public void PublishedDenoiser_OutputAndGradient_ArePyTorchs()
    {
        if (Absent())
            return;
        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(Folder, "pretrained_golden.safetensors"));
        using var denoiser = Denoiser();
        var (eps, gradient) = Vjp.Of(x => denoiser.call(x, golden.Read("ddpm.t")), golden.Read("ddpm.x"), golden.Read("ddpm.cotangent"));
        Close(golden.Read("ddpm.eps"), eps, 1e-5);
        Close(golden.Read("ddpm.vjp"), gradient, 1e-5);
    }

    [Fact]
    public void PublishedDenoiser_TwentyDdimSteps_EndWherePyTorchDoes()
    {
        if (Absent())
            return;
        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(Folder, "pretrained_golden.safetensors"));
        using var denoiser = Denoiser();
        // Every fiftieth of the network's thousand steps, then no noise at all.
        var points = Enumerable.Range(0, 20).Select(i => 1000 - 50 * i)
            .Select(t => new GridPoint(t / 1000.0, new NoiseLevel(Math.Sqrt(denoiser.AlphaBar(t)), Math.Sqrt(1 - denoiser.AlphaBar(t)))))
            .Append(new GridPoint(0, new NoiseLevel(1, 0))).ToArray();
        using var result = Sampling.Sample(new SampleRequest
        {
            Field = NoiseField.From((x, time) => denoiser.call(x, full([x.shape[0]], time))),
            Noise = golden.Read("ddpm.ddim20_init"),
            Grid = new TimeGrid(new LinearVp(), points),
        }, TestContext.Current.CancellationToken);
        Close(golden.Read("ddpm.ddim20_out"), result.Sample, 1e-5);
    }

    [Fact]
    public void PublishedClassifier_Logits_ArePyTorchs()
    {
        if (Absent())
            return;
        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(Folder, "pretrained_golden.safetensors"));
        using var classifier = Mlp();
        Close(golden.Read("mlp.logits"), classifier.call(golden.Read("doodle.x")), 1e-5);
    }

    private static MnistCnnDenoiser Denoiser()
    {
        var denoiser = new MnistCnnDenoiser();
        ModuleWeights.Load(denoiser, Path.Combine(Folder, "ddpm_mnist_cnn.safetensors"));
        foreach (var parameter in denoiser.parameters())
            parameter.requires_grad_(false);
        return denoiser;
    }

    private static MnistMlp Mlp()
    {
        var classifier = new MnistMlp();
        ModuleWeights.Load(classifier, Path.Combine(Folder, "mnist_mlp_classifier.safetensors"));
        return classifier;
    }

    private bool Absent()
    {
        if (Directory.Exists(Folder))
            return false;
        output.WriteLine($"The published networks are not beside the repository ({Folder}), so nothing was compared.");
        Assert.False(Directory.Exists(Folder));
        return true;
    }

    private static void Close(Tensor expected, Tensor actual, double tolerance)
    {
        Assert.Equal(expected.shape, actual.shape);
        var error = (expected - actual).norm().ToDouble() / expected.norm().ToDouble();
        Assert.True(error <= tolerance, $"relative error {error:e2}");
    }
}
