using System.Globalization;
using System.IO.Compression;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>The trained models in <c>examples/models</c> do what their card says; few samples, so that the bars here are lower than the card's figures.</summary>
public sealed class ExampleModelsTests(ITestOutputHelper output)
{
    private const int PerClass = 3;

    [Theory]
    [InlineData("digits8-classifier")]
    [InlineData("digits8-classifier-heldout")]
    public void DigitsClassifier_HeldOutFifth_IsRight(string name)
    {
        using var scope = NewDisposeScope();
        using var classifier = ClassifierFolder.Load(Models(name));
        var (images, labels) = HeldOutDigits();
        var accuracy = Fraction(classifier.Logits(images), labels);
        Assert.True(accuracy >= 0.96, $"accuracy {accuracy:p2}");
    }

    [Theory]
    [InlineData("digits8", 0.9)]
    [InlineData("mnist", 0.9)]
    public void DiffusionModel_GuidedSamples_AreRecognisedByBothClassifiers(string family, double bar)
    {
        using var scope = NewDisposeScope();
        var (samples, labels) = Sample(family);
        foreach (var judge in new[] { "classifier", "classifier-heldout" })
        {
            using var classifier = ClassifierFolder.Load(Models($"{family}-{judge}"));
            var recognised = Fraction(classifier.Logits(samples), labels);
            output.WriteLine($"{judge}: {recognised:p0} of {labels.numel()}");
            Assert.True(recognised >= bar, $"{judge} recognises {recognised:p0} of {labels.numel()} samples");
        }
    }

    [Fact]
    public void MnistModel_PublishedClassifier_RecognisesSamplesToo()
    {
        if (!Directory.Exists(PretrainedTests.Folder))
        {
            output.WriteLine($"The published classifier is not beside the repository ({PretrainedTests.Folder}), so there is no second opinion.");
            Assert.False(File.Exists(Path.Combine(PretrainedTests.Folder, "mnist_mlp_classifier.safetensors")));
            return;
        }

        using var scope = NewDisposeScope();
        using var judge = PretrainedTests.Classifier("mnist-mlp", "mnist_mlp_classifier");
        var (samples, labels) = Sample("mnist");
        var recognised = Fraction(judge.Logits(samples.clamp(-1, 1)), labels);
        output.WriteLine($"{recognised:p0} of {labels.numel()}");
        Assert.True(recognised >= 0.7, $"recognises {recognised:p0} of {labels.numel()} samples");
    }

    [Fact]
    public void EveryFile_IsSmallerThanFiveMegabytes() =>
        Assert.All(Directory.GetFiles(Models(""), "*", SearchOption.AllDirectories), f => Assert.InRange(new FileInfo(f).Length, 1, 5_000_000));

    private static string Models(string name) => Path.Combine(ReferenceFolder.Root(), "examples", "models", name);

    private static (Tensor Samples, Tensor Labels) Sample(string family)
    {
        var folder = DiffusersFolder.Open(Models($"{family}-dpm"));
        using var unet = folder.LoadUNet2D();
        var size = unet.Config.SampleSize!.Values[0];
        var labels = arange(10, dtype: int64).repeat_interleave(PerClass);
        using var generator = new Generator(5);
        using var result = Sampling.Sample(new SampleRequest
        {
            Field = unet.Field(labels, guidance: 2),
            Noise = randn([labels.shape[0], 1, size, size], generator: generator),
            Grid = folder.ReadScheduler().Grid(20),
        }, TestContext.Current.CancellationToken);
        return (result.Sample.clone(), labels);
    }

    private static double Fraction(Tensor logits, Tensor labels) => logits.argmax(1).eq(labels).to(float64).mean().Number();

    private static (Tensor Images, Tensor Labels) HeldOutDigits()
    {
        using var reader = new StreamReader(new GZipStream(File.OpenRead(Path.Combine(ReferenceFolder.Root(), "examples", "data", "digits.csv.gz")), CompressionMode.Decompress));
        var rows = reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => Array.ConvertAll(l.Split(','), s => float.Parse(s, CultureInfo.InvariantCulture))).ToArray();
        var held = rows[(rows.Length * 4 / 5)..];
        return (tensor(held.SelectMany(r => r[..64]).ToArray(), [held.Length, 1, 8, 8]) / 8 - 1, tensor(held.Select(r => (long)r[64]).ToArray()));
    }
}
