using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Networks described by a file: against PyTorch, and what is said when the description is wrong.</summary>
public sealed class SequentialClassifierTests
{
    private static readonly string Folder = ReferenceFolder.Of("sequential_classifier");

    [Fact]
    public void EveryKindOfLayer_LogitsFeaturesAndGradient_ArePyTorchs()
    {
        using var scope = NewDisposeScope();
        // Loading goes through float32; the weights are read again into a network of float64.
        using var classifier = ClassifierFolder.Load(Folder);
        classifier.to(ScalarType.Float64);
        ModuleWeights.Load(classifier, Path.Combine(Folder, "model.safetensors"));
        using var golden = SafetensorsFile.Open(Path.Combine(Folder, "golden.safetensors"));
        var (logits, gradient) = Vjp.Of(classifier.Logits, golden.Read("x"), golden.Read("cotangent"));
        Close(golden.Read("logits"), logits, 1e-12);
        Close(golden.Read("vjp"), gradient, 1e-12);
        var features = classifier.Features(golden.Read("x"));
        Close(golden.Read("block"), features["block"], 1e-12);
        Close(golden.Read("deep"), features["deep"], 1e-12);
        Assert.Equal(["stem", "stem_bn", "stem_act", "depthwise", "project", "block", "deep"], classifier.Layers);
        Assert.Equal(5, classifier.Classes);
    }

    [Fact]
    public void SavedAndLoaded_GivesTheSameLogits()
    {
        using var scope = NewDisposeScope();
        var folder = Directory.CreateTempSubdirectory("adjointdpm-classifier-");
        try
        {
            using var first = ClassifierFolder.Load(Folder);
            ClassifierFolder.Save(first, folder.FullName);
            using var second = ClassifierFolder.Load(folder.FullName);
            var x = rand(2, 3, 11, 12);
            Assert.Equal(first.Logits(x).data<float>().ToArray(), second.Logits(x).data<float>().ToArray());
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    [Fact]
    public void Images_AreResizedAndGreyOnesRepeated()
    {
        using var scope = NewDisposeScope();
        using var classifier = new SequentialClassifier(new SequentialClassifierConfig
        {
            InChannels = 2,
            SampleSize = 16,
            InputMin = -3,
            InputMax = 5,
            Layers = [new() { Type = LayerKind.GlobalAveragePool }],
        });
        // The mean is what an enlargement by two keeps.
        var image = rand(1, 1, 8, 8) * 2 - 1;
        var expected = 4 * image.mean().Number() + 1;
        Assert.All(classifier.Logits(image).data<float>().ToArray(), logit => Assert.Equal(expected, logit, 1e-5));
        Assert.Contains("have 3 channels", Assert.Throws<ArgumentException>(() => classifier.Logits(rand(1, 3, 8, 8))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"type":"conv2d","name":"a","kernel_size":3}""", "out_channels is 0")]
    [InlineData("""{"type":"conv2d","out_channels":4,"kernel_size":3}""", "name is missing")]
    [InlineData("""{"type":"conv2d","name":"a","out_channels":4,"kernel_size":3,"groups":2}""", "groups 2 does not divide 3 input")]
    [InlineData("""{"type":"conv2d","name":"a.b","out_channels":4,"kernel_size":3}""", "has a dot or is taken")]
    [InlineData("""{"type":"linear","name":"a","out_features":4}""", "needs a vector")]
    [InlineData("""{"type":"flatten"},{"type":"linear","name":"a","out_features":4}""", "in_features is 0")]
    [InlineData("""{"type":"global_average_pool"},{"type":"linear","name":"a","in_features":7,"out_features":4}""", "the layer before it makes 3")]
    [InlineData("""{"type":"relu","name":"a"},{"type":"add","from":"b"}""", "from is 'b', which is no layer before it")]
    [InlineData("""{"type":"flatten"},{"type":"max_pool2d","kernel_size":2}""", "it needs maps")]
    [InlineData("""{"type":"relu"}""", "layers ends in maps of 3 channels")]
    [InlineData("""{"type":"warp"}""", "'warp' is none of conv2d, batch_norm")]
    public void WrongDescription_IsNamed(string layers, string said)
    {
        var folder = Directory.CreateTempSubdirectory("adjointdpm-classifier-");
        try
        {
            File.WriteAllText(Path.Combine(folder.FullName, "config.json"), $$"""{"_class_name":"SequentialClassifier","layers":[{{layers}}]}""");
            Assert.Contains(said, Assert.Throws<ModelConfigException>(() => ClassifierFolder.Load(folder.FullName)).Message, StringComparison.Ordinal);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    internal static void Close(Tensor expected, Tensor actual, double tolerance)
    {
        Assert.Equal(expected.shape, actual.shape);
        var error = (expected - actual).norm().Number() / expected.norm().Number();
        Assert.True(error <= tolerance, $"relative error {error:e2}");
    }
}
