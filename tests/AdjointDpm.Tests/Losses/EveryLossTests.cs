using AdjointDpm.Gradients;
using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

/// <summary>What holds of every loss.</summary>
public sealed class EveryLossTests
{
    public static TheoryData<string> Names => [.. EveryLoss.Names];

    public static TheoryData<string> Plain => [.. EveryLoss.Plain];

    [Theory]
    [MemberData(nameof(Names))]
    public void Gradient_IsTheFiniteDifference(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(7);
        var loss = EveryLoss.Build(name);
        var x = randn(3, 3, 10, 10, dtype: float64).mul(0.5);
        var (value, gradient) = Vjp.Of(loss.Mean, x, null);
        Assert.Empty(value.shape);
        Assert.True(gradient.norm().Number() > 0);
        for (var i = 0; i < 3; i++)
        {
            var direction = randn(3, 3, 10, 10, dtype: float64);
            var expected = gradient.mul(direction).sum().Number();
            var error = new[] { 1e-4, 1e-5, 1e-6 }.Min(h => Math.Abs(((loss.Mean(x + direction * h).Number() - loss.Mean(x - direction * h).Number()) / (2 * h)) - expected));
            var size = Math.Max(Math.Abs(expected), gradient.norm().Number());
            Assert.True(error <= 1e-7 * size, $"relative error {error / size:e2}");
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void SinglePrecision_AgreesWithDouble(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(9);
        var sharp = EveryLoss.Build(name);
        manual_seed(9);
        // Random numbers are drawn in the dtype asked for, so the blurred loss is made of the sharp one's numbers where there are any.
        var x = randn(2, 3, 10, 10, dtype: float64).mul(0.5);
        var (value, gradient) = Vjp.Of(sharp.PerSample, x.to(float32), null);
        Assert.Equal([2L], value.shape);
        Assert.Equal(ScalarType.Float32, gradient.dtype);
        var (expected, slope) = Vjp.Of(sharp.PerSample, x.to(float32).to(float64), null);
        Reference.Close(expected, value.to(float64), "loss", 2e-5);
        Reference.Close(slope, gradient.to(float64), "gradient", 2e-5);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void SinglePrecisionNetworks_GiveSinglePrecision(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(9);
        var (value, gradient) = Vjp.Of(EveryLoss.Build(name, float32).PerSample, randn(2, 3, 10, 10), null);
        Assert.Equal(ScalarType.Float32, value.dtype);
        Assert.Equal(ScalarType.Float32, gradient.dtype);
        Assert.True(gradient.isfinite().all().IsTrue() && gradient.norm().Number() > 0);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void PerSample_OfShards_IsTheWholeBatchs(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(8);
        var loss = EveryLoss.Build(name);
        var x = randn(5, 3, 10, 10, dtype: float64);
        var (whole, gradient) = Vjp.Of(loss.PerSample, x, null);
        var (first, ofFirst) = Vjp.Of(loss.PerSample, x[..2], null);
        var (rest, ofRest) = Vjp.Of(loss.PerSample, x[2..], null);
        Reference.Close(whole, cat([first, rest]), "loss", 1e-13);
        Reference.Close(gradient, cat([ofFirst, ofRest]), "gradient", 1e-12);
    }

    /// <summary>Losses without a network have equal bits however the batch is split; in a network, the order of a sum may hang on the size of the batch.</summary>
    [Theory]
    [MemberData(nameof(Plain))]
    public void PerSample_OfShards_HasTheWholeBatchsBits(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(8);
        foreach (var dtype in new[] { float32, float64 })
        {
            var loss = EveryLoss.Build(name, dtype);
            var x = randn(5, 3, 10, 10, dtype: dtype);
            var (whole, gradient) = Vjp.Of(loss.PerSample, x, null);
            for (var i = 0; i < 5; i++)
            {
                var (one, slope) = Vjp.Of(loss.PerSample, x.narrow(0, i, 1), null);
                Assert.True(whole.narrow(0, i, 1).Equals(one));
                Assert.True(gradient.narrow(0, i, 1).Equals(slope));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void PerSample_AskedAgain_HasTheSameBits(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(8);
        var loss = EveryLoss.Build(name, float32);
        var x = randn(3, 3, 10, 10);
        var (value, gradient) = Vjp.Of(loss.PerSample, x, null);
        for (var i = 0; i < 5; i++)
        {
            var (again, slope) = Vjp.Of(loss.PerSample, x, null);
            Assert.True(value.Equals(again));
            Assert.True(gradient.Equals(slope));
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Check_EveryLoss_Passes(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(8);
        var report = RewardCheck.Run(EveryLoss.Build(name), randn(3, 3, 10, 10, dtype: float64).mul(0.5));
        // A noise of zeros has no likelihood at all.
        Assert.Equal(name == "noise chi" ? ["grey"] : [], report.Problems.Select(p => new[] { "black", "grey", "white" }.FirstOrDefault(p.Contains) ?? p));
        Assert.True(report.Deterministic);
        Assert.InRange(report.Mean, report.Lowest, report.Highest);
        Assert.Equal(4, report.Slopes.Count);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void LossAndGradient_LeaveNoTensorBehind(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(8);
        var loss = EveryLoss.Build(name, float32);
        var x = randn(2, 3, 10, 10);
        Step();
        var before = DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
        for (var i = 0; i < 3; i++)
            Step();
        Assert.Equal(before, DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount);

        void Step()
        {
            var (value, gradient) = Vjp.Of(loss.PerSample, x, null);
            value.Dispose();
            gradient.Dispose();
        }
    }
}

/// <summary>The pace of the collector is the whole process'.</summary>
[Collection(nameof(Alone))]
public sealed class LossCollectionTests
{
    private const int Rounds = 15;

    /// <summary>TorchSharp frees scalars that a native call still reads when the collector runs at the wrong moment; losses must give it none.</summary>
    [Fact]
    public void EveryLoss_CollectedAllTheTime_GivesTheSameGradient()
    {
        using var scope = NewDisposeScope();
        manual_seed(2);
        var loss = new WeightedLoss([.. EveryLoss.Names.Except(["external"]).Select(name => (0.5, EveryLoss.Build(name, float32)))]);
        var x = randn(2, 3, 10, 10);
        var seed = ones([]);
        using var collector = new BusyCollector();
        var (_, first) = Vjp.Of(loss.Mean, x, seed);
        for (var i = 0; i < Rounds; i++)
        {
            using var inner = NewDisposeScope();
            var (_, again) = Vjp.Of(loss.Mean, x, seed);
            Assert.True(first.Equals(again), $"round {i}: differs by {first.sub(again).abs().max().Number():e2}");
        }
    }
}
