using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static AdjointDpm.Tests.Models.SequentialClassifierTests;
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

    [Theory]
    [InlineData("mnist-mlp", "mnist_mlp_classifier", "mlp.logits")]
    [InlineData("doodlenet", "doodlenet_quickdraw345", "doodle.logits")]
    public void PublishedClassifiersOfDrawings_Logits_ArePyTorchs(string name, string weights, string logits)
    {
        if (Absent())
            return;
        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(Folder, "pretrained_golden.safetensors"));
        using var classifier = Classifier(name, weights);
        Close(golden.Read(logits), classifier.Logits(Image(golden.Read("doodle.x"))), 1e-5);
    }

    [Fact]
    public void TinyDarknet_LogitsFeaturesAndGradients_ArePyTorchs()
    {
        if (Absent())
            return;
        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(Folder, "pretrained_golden.safetensors"));
        using var classifier = Classifier("tiny-darknet", "tiny_darknet_imagenet");
        var image = Image(golden.Read("darknet.x")).requires_grad_();
        var logits = classifier.Logits(image);
        Close(golden.Read("darknet.logits"), logits, 1e-5);
        nn.functional.cross_entropy(logits, tensor(new long[] { 7, 281 })).backward();
        // The golden gradient is with respect to pixels in [0, 1], of which [-1, 1] makes two units.
        Close(golden.Read("darknet.ce_7_281_grad"), image.grad! * 2, 1e-4);
        Close(golden.Read("darknet.leaky4"), classifier.Features(image)["leaky_4"], 1e-5);
    }

    /// <summary><see cref="GramStyleLoss"/> divides by a reference's norm, which the golden number does not have: compared are the matrices that it compares, by their squares and the gradient of these.</summary>
    [Fact]
    public void TinyDarknet_GramMatricesAndTheirGradient_ArePyTorchs()
    {
        if (Absent())
            return;
        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(Folder, "pretrained_golden.safetensors"));
        using var classifier = Classifier("tiny-darknet", "tiny_darknet_imagenet");
        var image = Image(golden.Read("darknet.x")).requires_grad_();
        string[] layers = ["leaky_1", "leaky_2", "leaky_4", "leaky_8"];
        var maps = classifier.Features(image);
        var sum = layers.Select(layer => GramStyleLoss.Gram(maps[layer])).Select(gram => gram.mul(gram).sum()).Aggregate((a, b) => a + b);
        sum.backward();
        Close(golden.Read("darknet.gram_sq_sum"), sum.detach().reshape(1), 1e-4);
        Close(golden.Read("darknet.gram_sq_grad"), image.grad! * 2, 1e-4);
    }

    private static MnistCnnDenoiser Denoiser()
    {
        var denoiser = new MnistCnnDenoiser();
        ModuleWeights.Load(denoiser, Path.Combine(Folder, "ddpm_mnist_cnn.safetensors"));
        foreach (var parameter in denoiser.parameters())
            parameter.requires_grad_(false);
        return denoiser;
    }

    internal static SequentialClassifier Classifier(string name, string weights)
    {
        var classifier = new SequentialClassifier(ModelConfig.Read<SequentialClassifierConfig>(Path.Combine(ReferenceFolder.Root(), "examples", "classifiers", name, "config.json")));
        ModuleWeights.Load(classifier, Path.Combine(Folder, weights + ".safetensors"));
        return classifier;
    }

    private static Tensor Image(Tensor pixels) => pixels * 2 - 1;

    private bool Absent()
    {
        if (Directory.Exists(Folder))
            return false;
        output.WriteLine($"The published networks are not beside the repository ({Folder}), so nothing was compared.");
        Assert.False(Directory.Exists(Folder));
        return true;
    }
}
