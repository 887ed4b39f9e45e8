using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

public sealed class SampleLossTests
{
    public static TheoryData<string> Losses => ["cross-entropy", "cross-entropy held out", "style", "style weighted", "pixels", "sum"];

    [Theory]
    [MemberData(nameof(Losses))]
    public void Mean_Gradient_IsTheFiniteDifference(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(7);
        var loss = Build(name);
        var x = randn(3, 1, 8, 8, dtype: float64).mul(0.5);
        var direction = randn(3, 1, 8, 8, dtype: float64);
        var leaf = x.clone().requires_grad_();
        var value = loss.Mean(leaf);
        Assert.Empty(value.shape);
        value.backward();
        var expected = leaf.grad!.mul(direction).sum().Number();

        const double h = 1e-6;
        var difference = (loss.Mean(x + direction * h).Number() - loss.Mean(x - direction * h).Number()) / (2 * h);
        Assert.NotEqual(0, expected);
        Assert.Equal(expected, difference, 1e-7 * Math.Max(1, Math.Abs(expected)));
    }

    // Labels and targets that differ from sample to sample are split with the samples by whoever makes the shards.
    [Theory]
    [InlineData("cross-entropy held out")]
    [InlineData("style")]
    [InlineData("style weighted")]
    [InlineData("sum")]
    public void Sum_OfShards_IsTheWholeBatchs(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(8);
        var loss = Build(name);
        var x = randn(5, 1, 8, 8, dtype: float64);
        var shards = (loss.Sum(x[..2]).Number() + loss.Sum(x[2..]).Number()) / 5;
        Assert.Equal(loss.Mean(x).Number(), shards, 1e-10);
    }

    [Fact]
    public void CrossEntropy_OfWantedClass_IsMinusLogProbability()
    {
        using var scope = NewDisposeScope();
        var judge = Classifier("conv");
        using var loss = new CrossEntropyLoss(judge, 3, 9);
        var x = randn(2, 1, 8, 8, dtype: float64);
        var p = judge.Logits(x).softmax(1);
        var each = loss.PerSample(x);
        Assert.Equal(-Math.Log(p[0, 3].Number()), each[0].Number(), 1e-10);
        Assert.Equal(-Math.Log(p[1, 9].Number()), each[1].Number(), 1e-10);
        Assert.Throws<ArgumentException>(() => loss.PerSample(randn(3, 1, 8, 8)));
        Assert.Throws<ArgumentException>(() => new CrossEntropyLoss(judge, 10));
        Assert.Throws<ArgumentException>(() => new CrossEntropyLoss(judge));
    }

    [Fact]
    public void Style_OfTheReferenceItself_IsZeroAndOfAnotherIsNot()
    {
        using var scope = NewDisposeScope();
        var features = Classifier("conv");
        var reference = randn(1, 1, 8, 8, dtype: float64);
        using var loss = new GramStyleLoss(features, reference);
        Assert.Equal(0, loss.Mean(reference).Number(), 1e-12);
        Assert.True(loss.Mean(reference.neg()).Number() > 1e-3);
        Assert.Contains("conv1", Assert.Throws<ArgumentException>(() => new GramStyleLoss(features, reference, new Dictionary<string, double> { ["conv9"] = 1 })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Style_ByHand_IsTheRelativeDistanceOfGramMatrices()
    {
        using var scope = NewDisposeScope();
        var features = Classifier("residual");
        var (reference, x) = (randn(2, 1, 8, 8, dtype: float64), randn(1, 1, 8, 8, dtype: float64));
        using var loss = new GramStyleLoss(features, reference, new Dictionary<string, double> { ["stem"] = 2 });
        Tensor Gram(Tensor images)
        {
            var f = features.Features(images)["stem"];
            return einsum("bchw,bdhw->bcd", f, f) / (f.shape[1] * f.shape[2] * f.shape[3]);
        }

        var wanted = Gram(reference).mean([0]);
        var expected = 2 * (Gram(x)[0] - wanted).Squared().sum().Number() / wanted.Squared().sum().Number();
        Assert.Equal(expected, loss.Mean(x).Number(), 1e-10);
    }

    [Fact]
    public void PixelDistance_OtherShape_IsRefused()
    {
        using var scope = NewDisposeScope();
        using var loss = new PixelDistanceLoss(zeros(1, 1, 8, 8));
        Assert.Equal(4, loss.Mean(full([2, 1, 8, 8], 2.0)).Number(), 1e-12);
        Assert.Throws<ArgumentException>(() => loss.Mean(zeros(2, 1, 8, 1)));
        Assert.Throws<ArgumentException>(() => loss.Mean(zeros(2, 8, 8)));
    }

    private static SampleLoss Build(string name) => name switch
    {
        "cross-entropy" => new CrossEntropyLoss(Classifier("conv"), 1, 2, 3),
        "cross-entropy held out" => new CrossEntropyLoss(Classifier("residual"), 4),
        "style" => new GramStyleLoss(Classifier("conv"), randn(2, 1, 8, 8, dtype: float64)),
        "style weighted" => new GramStyleLoss(Classifier("residual"), randn(1, 1, 12, 12, dtype: float64), new Dictionary<string, double> { ["stem"] = 0.5, ["stage2"] = 3 }),
        "pixels" => new PixelDistanceLoss(randn(3, 1, 8, 8, dtype: float64)),
        _ => new WeightedLoss((0.3, new CrossEntropyLoss(Classifier("residual"), 4)), (2, new PixelDistanceLoss(randn(1, 1, 8, 8, dtype: float64)))),
    };

    private static ImageClassifier Classifier(string architecture)
    {
        ImageClassifier classifier = architecture == "conv"
            ? new ConvClassifier(new ConvClassifierConfig { SampleSize = 8, Channels = [4, 8] })
            : new ResidualClassifier(new ResidualClassifierConfig { Channels = [8, 8], StemStride = 1 });
        classifier.to(float64);
        classifier.eval();
        return classifier;
    }
}
