using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Tests.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

public sealed class RewardCheckTests
{
    [Theory]
    [InlineData("twice", "The gradient is not that of the loss: along 'gradient'")]
    [InlineData("component", "The gradient is not that of the loss")]
    [InlineData("constant", "The gradient is zero, and the loss does not change")]
    [InlineData("detached", "has no gradient with respect to the picture")]
    [InlineData("detached weights", "The gradient is zero although the loss changes")]
    [InlineData("batch mean", "depends on the other samples")]
    [InlineData("batch size", "depends on the other samples")]
    [InlineData("gradient of others", "reaches into other samples")]
    [InlineData("random", "another loss or gradient when asked again")]
    [InlineData("nan", "The loss is not finite for sample 0")]
    [InlineData("root", "The gradient is not finite although the loss is")]
    [InlineData("root at grey", "not finite for a grey picture")]
    public void Check_EachFault_IsFoundAndNamed(string fault, string said)
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        var x = randn(3, 1, 4, 4, dtype: float64);
        if (fault == "root")
            x.select(0, 1).zero_();
        var report = RewardCheck.Run(new Faulty(fault), x);
        Assert.False(report.Passed);
        Assert.Contains(said, string.Join('\n', report.Problems), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("constant")]
    [InlineData("detached")]
    [InlineData("detached weights")]
    public void Check_WithoutAGradient_NamesTheAlternatives(string fault)
    {
        using var scope = NewDisposeScope();
        var problem = Assert.Single(RewardCheck.Run(new Faulty(fault), randn(2, 1, 4, 4, dtype: float64)).Problems);
        Assert.All(["C# class", "TorchScript", "sidecar"], s => Assert.Contains(s, problem, StringComparison.Ordinal));
    }

    [Fact]
    public void Check_TorchScriptFiles_FindsTheFaultyOnes()
    {
        using var scope = NewDisposeScope();
        manual_seed(2);
        var x = rand(3, 3, 9, 8, dtype: float64) * 2 - 1;
        RewardReport Of(string file) => RewardCheck.Run(TorchScriptLoss.Load(Path.Combine(ReferenceFolder.Of("losses"), file)), x);
        Assert.True(Of("reward.pt").Passed);
        Assert.Contains("depends on the other samples", string.Join('\n', Of("coupled.pt").Problems), StringComparison.Ordinal);
        Assert.Contains("without a gradient", Assert.Single(Of("cut.pt").Problems), StringComparison.Ordinal);
        Assert.Contains("whole numbers", Assert.Single(Of("rank.pt").Problems), StringComparison.Ordinal);
        Assert.Throws<InvalidDataException>(() => Of("whole.pt"));
    }

    [Fact]
    public void Check_SinglePrecision_HasItsTolerance()
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        var x = randn(3, 3, 10, 10) * 0.5;
        foreach (var name in new[] { "cross-entropy", "perceptual", "clip similarity", "aesthetic", "torchscript", "external" })
        {
            var report = RewardCheck.Run(EveryLoss.Build(name, float32), x);
            Assert.Empty(report.Problems);
            Assert.Equal(ScalarType.Float32, report.Precision);
            Assert.Equal(1e-2, report.Tolerance);
        }

        // A tenth off is seen in single precision, too.
        Assert.False(RewardCheck.Run(new Faulty("tenth"), randn(3, 1, 4, 4)).Passed);
    }

    [Fact]
    public void Check_LabelsForEachSample_AreNotTakenForCoupling()
    {
        using var scope = NewDisposeScope();
        manual_seed(4);
        using var loss = new CrossEntropyLoss(EveryLoss.Classifier(float64), 1, 2, 3);
        Assert.Empty(RewardCheck.Run(loss, randn(3, 3, 10, 10, dtype: float64)).Problems);
        Assert.Contains("two or more", Assert.Throws<ArgumentException>(() => RewardCheck.Run(loss, randn(1, 3, 10, 10))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Check_Report_SaysRangeAndSlopes()
    {
        using var scope = NewDisposeScope();
        using var loss = new PixelDistanceLoss(zeros(1, 1, 2, 2, dtype: float64));
        var x = stack([full([1, 2, 2], 1.0, dtype: float64), full([1, 2, 2], 3.0, dtype: float64)]);
        var report = RewardCheck.Run(loss, x, directions: 2);
        Assert.Equal((1, 9, 5), (report.Lowest, report.Highest, report.Mean));
        // 2 x / 4 at four pixels each: norm² = 4 · ¼ + 4 · 9/4.
        Assert.Equal(Math.Sqrt(10), report.GradientNorm, 1e-12);
        Assert.Equal(["gradient", "random 1", "random 2"], report.Slopes.Select(s => s.Direction));
        // Along the gradient's own direction, of root mean square 1.
        Assert.Equal(Math.Sqrt(10) * Math.Sqrt(8), report.Slopes[0].Gradient, 1e-10);
        Assert.All(report.Slopes, s => Assert.InRange(s.RelativeError, 0, 1e-8));
        Assert.Equal(0, report.Coupling);
    }

    /// <summary>A mean square with one fault.</summary>
    private sealed class Faulty(string fault) : SampleLoss
    {
        private int _calls;

        public override Tensor PerSample(Tensor samples)
        {
            var square = samples.Squared().mean([1, 2, 3]);
            var extra = square - square.detach();
            return fault switch
            {
                "twice" => square + extra,
                "tenth" => square + extra * 0.1,
                "component" => square - samples.select(3, 0).Squared().sum([1, 2]) / 16 + samples.select(3, 0).detach().Squared().sum([1, 2]) / 16,
                "constant" => samples.mul(0).sum([1, 2, 3]) + 1,
                "detached" => samples.detach().mean([1, 2, 3]),
                "detached weights" => samples.detach().mean([1, 2, 3]) * ones(1, dtype: samples.dtype, requires_grad: true),
                "batch mean" => square - square.mean(),
                "batch size" => square / samples.shape[0],
                "gradient of others" => square + extra.sum(),
                "random" => square * (1 + 1e-3 * ++_calls),
                "nan" => square * double.NaN,
                "root" or "root at grey" => square.sqrt(),
                _ => throw new InvalidOperationException(fault),
            };
        }
    }
}
