using AdjointDpm.Gradients;
using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Tests.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

/// <summary>Losses of a classifier's logits and features against what their formulas give by hand.</summary>
public sealed class ClassifierLossTests
{
    [Fact]
    public void LogProbability_IsTheSurpriseOrItsOpposite()
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        var judge = EveryLoss.Classifier(float64);
        var x = randn(3, 3, 10, 10, dtype: float64);
        var p = judge.Logits(x).softmax(1);
        using var towards = new LogProbabilityLoss(judge, AuditGoal.Targeted, 1, 2, 3);
        using var away = new LogProbabilityLoss(judge, AuditGoal.Untargeted, 1, 2, 3);
        using var known = new CrossEntropyLoss(judge, 1, 2, 3);
        Assert.True(towards.PerSample(x).Equals(known.PerSample(x)));
        for (var i = 0; i < 3; i++)
            Assert.Equal(Math.Log(p[i, i + 1].Number()), away.PerSample(x)[i].Number(), 1e-12);
        Assert.Throws<ArgumentException>(() => away.PerSample(x[..2]));
    }

    [Fact]
    public void Margin_IsTheDistanceToTheNextClass_AndStopsAtTheConfidence()
    {
        using var scope = NewDisposeScope();
        var logits = tensor(new[,] { { 1.0, 4, 2 }, { 1, 4, 2 }, { 7, 4, 2 } });
        using var judge = new FixedLogits(logits);
        var x = zeros(3, 1, 1, 1, dtype: float64);
        double[] Of(AuditGoal goal, double confidence, params long[] labels) => new MarginLoss(judge, goal, confidence, labels).PerSample(x).data<double>().ToArray();
        Assert.Equal([3, -2, -3], Of(AuditGoal.Targeted, 10, 0, 1, 0));
        Assert.Equal([-3, 2, 3], Of(AuditGoal.Untargeted, 10, 0, 1, 0));
        Assert.Equal([3, -1, -1], Of(AuditGoal.Targeted, 1, 0, 1, 0));
        Assert.Equal([-3, 2, 3], Of(AuditGoal.Untargeted, double.PositiveInfinity, 0, 1, 0));
        Assert.Equal([0, 0, -0.0], Of(AuditGoal.Targeted, 0, 1, 1, 0));
        var (_, gradient) = Vjp.Of(new MarginLoss(judge, AuditGoal.Targeted, 1, 0, 1, 0).PerSample, x, null);
        Assert.Equal([3, 0, 0], gradient.reshape(3).data<double>().ToArray());
        Assert.Contains("0 or more", Assert.Throws<ArgumentException>(() => new MarginLoss(judge, AuditGoal.Targeted, -1, 0)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new MarginLoss(judge, AuditGoal.Targeted, 0, 3));
    }

    [Fact]
    public void FeatureDistance_ByHand_IsTheMeanSquareByLayer()
    {
        using var scope = NewDisposeScope();
        manual_seed(2);
        var net = EveryLoss.Classifier(float64);
        var (reference, x) = (randn(2, 3, 10, 10, dtype: float64), randn(2, 3, 10, 10, dtype: float64));
        using var loss = new FeatureDistanceLoss(net, reference, new Dictionary<string, double> { ["stem"] = 2, ["stage1"] = 0.5 });
        var (a, b) = (net.Features(x), net.Features(reference));
        for (var i = 0; i < 2; i++)
        {
            var expected = 2 * (a["stem"][i] - b["stem"][i]).Squared().mean().Number() + 0.5 * (a["stage1"][i] - b["stage1"][i]).Squared().mean().Number();
            Assert.Equal(expected, loss.PerSample(x)[i].Number(), 1e-12);
        }

        Assert.Equal(0, loss.Mean(reference).Number());
        Assert.Contains("stem", Assert.Throws<ArgumentException>(() => new FeatureDistanceLoss(net, reference, new Dictionary<string, double> { ["conv9"] = 1 })).Message, StringComparison.Ordinal);
        Assert.Contains("do not fit", Assert.Throws<ArgumentException>(() => loss.PerSample(randn(2, 3, 9, 10, dtype: float64))).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => loss.PerSample(randn(3, 3, 10, 10, dtype: float64)));
    }

    [Fact]
    public void PerceptualDistance_ByHand_IsTheWeightedDifferenceOfUnitFeatures()
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        var net = EveryLoss.Classifier(float64);
        var (reference, x) = (randn(1, 3, 10, 10, dtype: float64), randn(2, 3, 10, 10, dtype: float64));
        var channels = rand(8, dtype: float64);
        using var loss = new PerceptualDistanceLoss(net, reference, new Dictionary<string, double> { ["stage2"] = 3 }, new Dictionary<string, Tensor> { ["stage2"] = channels });
        Tensor Unit(Tensor images)
        {
            var f = net.Features(images)["stage2"];
            return f / (f * f).sum([1], keepdim: true).sqrt();
        }

        var expected = 3 * ((Unit(x) - Unit(reference)).Squared() * channels.reshape(1, -1, 1, 1)).sum([1]).mean([1, 2]);
        Reference.Close(expected, loss.PerSample(x), "distance", 1e-9);
        Assert.Equal(0, loss.Mean(reference).Number());
        Assert.Contains("8 channels, but 5", Assert.Throws<ArgumentException>(() => new PerceptualDistanceLoss(net, reference, channels: new Dictionary<string, Tensor> { ["stage2"] = ones(5) })).Message, StringComparison.Ordinal);
        Assert.Contains("below 0", Assert.Throws<ArgumentException>(() => new PerceptualDistanceLoss(net, reference, channels: new Dictionary<string, Tensor> { ["stage2"] = -ones(8) })).Message, StringComparison.Ordinal);
    }

    // Behind a ReLU whole places can be silent.
    [Fact]
    public void PerceptualDistance_WhereAllIsSilent_HasAFiniteGradient()
    {
        using var scope = NewDisposeScope();
        using var net = new FixedLogits(zeros(1, 2, dtype: float64));
        using var loss = new PerceptualDistanceLoss(net, ones(1, 2, 3, 3, dtype: float64));
        var (value, gradient) = Vjp.Of(loss.PerSample, zeros(1, 2, 3, 3, dtype: float64), null);
        Assert.Equal(1, value.Number(), 1e-9);
        Assert.True(gradient.isfinite().all().IsTrue());
    }

    /// <summary>Given logits, times one plus the image's mean; the image itself as features.</summary>
    private sealed class FixedLogits : ImageClassifier
    {
        private readonly TorchSharp.Modules.Parameter _logits;

        public FixedLogits(Tensor logits)
            : base(nameof(FixedLogits))
        {
            _logits = nn.Parameter(logits.clone(), requires_grad: false);
            RegisterComponents();
        }

        public override int Classes => (int)_logits.shape[1];

        public override IReadOnlyList<string> Layers => ["image"];

        public override Tensor Logits(Tensor images) => _logits * (images.mean([1, 2, 3]).unsqueeze(1) + 1);

        public override IReadOnlyDictionary<string, Tensor> Features(Tensor images) => new Dictionary<string, Tensor> { ["image"] = nn.functional.relu(images) };

        public override void WriteConfig(string path) => throw new NotSupportedException();
    }
}
