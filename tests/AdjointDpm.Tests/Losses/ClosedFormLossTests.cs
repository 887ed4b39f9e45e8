using AdjointDpm.Gradients;
using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Tests.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

/// <summary>Losses that need no network, against numbers and formulas written by hand.</summary>
public sealed class ClosedFormLossTests
{
    [Fact]
    public void TotalVariation_OfFourPixels_IsTheSumOverPairs()
    {
        using var scope = NewDisposeScope();
        // Pairs: 1–4, −2–0 across; 1–−2, 4–0 down.
        var x = tensor(new[] { 1.0, 4, -2, 0 }).reshape(1, 1, 2, 2);
        Assert.Equal((3 + 2 + 3 + 4) / 4.0, new TotalVariationLoss(VariationKind.Absolute).Mean(x).Number(), 1e-14);
        Assert.Equal((9 + 4 + 9 + 16) / 4.0, new TotalVariationLoss(VariationKind.Squared).Mean(x).Number(), 1e-14);
        Assert.Equal(0, new TotalVariationLoss(VariationKind.Absolute).Mean(ones(2, 3, 1, 1)).Number());
        Assert.Equal(0, Vjp.Of(new TotalVariationLoss(VariationKind.Absolute).Mean, ones(2, 3, 4, 4), null).Gradient.abs().sum().Number());
    }

    [Fact]
    public void GaussianDivergence_IsTheClosedForm_AndWhatSamplingSays()
    {
        using var scope = NewDisposeScope();
        manual_seed(4);
        var (frozen, x) = (randn(2, 1, 2, 3, dtype: float64), randn(2, 1, 2, 3, dtype: float64));
        const double s = 0.7;
        using var loss = new GaussianDivergenceLoss(frozen, s);
        var expected = (x - frozen).flatten(1).pow(2).sum(1) / (2 * s * s);
        Reference.Close(expected, loss.PerSample(x), "divergence", 1e-13);

        // E over N(x, s²) of log p_x − log p_frozen.
        var draws = x[0] + s * randn(200_000, 1, 2, 3, dtype: float64);
        var log = ((draws - frozen[0]).flatten(1).pow(2).sum(1) - (draws - x[0]).flatten(1).pow(2).sum(1)) / (2 * s * s);
        var error = log.std().Number() / Math.Sqrt(200_000);
        Assert.InRange(log.mean().Number(), expected[0].Number() - 5 * error, expected[0].Number() + 5 * error);
        Assert.Throws<ArgumentException>(() => new GaussianDivergenceLoss(frozen, 0));
        Assert.Throws<ArgumentException>(() => loss.PerSample(randn(3, 1, 2, 3)));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(64)]
    [InlineData(16384)]
    public void NoiseNorm_Chi_IsMinusTheLogDensity(int d)
    {
        using var scope = NewDisposeScope();
        var x = CounterNoise.Normal(new NoiseKey(5), [4, d], ScalarType.Float64);
        var r = x.pow(2).sum(1).sqrt();
        var expected = -((d - 1) * r.log() - r.pow(2) / 2 - (d / 2.0 - 1) * Math.Log(2) - tensor(d / 2.0, dtype: float64).lgamma());
        var loss = new NoiseNormLoss(NoiseNormKind.ChiLogDensity);
        // Written with the constants apart, the formula loses digits itself.
        Assert.True((expected - loss.PerSample(x)).abs().max().Number() <= 1e-15 * d + 1e-12);
        // Single precision keeps the digits that matter: those of the excess.
        Assert.True((expected - loss.PerSample(x.to(float32)).to(float64)).abs().max().Number() <= 1e-4);
    }

    [Fact]
    public void NoiseNorm_Chi_IntegratesToOne()
    {
        using var scope = NewDisposeScope();
        const int d = 5;
        const double step = 1e-3;
        var r = arange(step / 2, 12, step, dtype: float64);
        var x = cat([r.unsqueeze(1), zeros(r.shape[0], d - 1, dtype: float64)], 1);
        Assert.Equal(1, new NoiseNormLoss(NoiseNormKind.ChiLogDensity).PerSample(x).neg().exp().sum().Number() * step, 1e-6);
    }

    [Fact]
    public void NoiseNorm_MinimaAndZero_AreWhereTheySay()
    {
        using var scope = NewDisposeScope();
        const int d = 48;
        var x = CounterNoise.Normal(new NoiseKey(6), [1, 3, 4, 4], ScalarType.Float64);
        var unit = x / x.norm();
        foreach (var (kind, squared) in new[] { (NoiseNormKind.ChiLogDensity, d - 1.0), (NoiseNormKind.SquaredDeviation, d) })
        {
            var loss = new NoiseNormLoss(kind);
            Assert.Equal(0, Vjp.Of(loss.Mean, unit * Math.Sqrt(squared), null).Gradient.norm().Number(), 1e-12);
            Assert.True(loss.Mean(unit * 7.5).Number() > loss.Mean(unit * Math.Sqrt(squared)).Number());
        }

        Assert.Equal(4, new NoiseNormLoss(NoiseNormKind.SquaredDeviation).Mean(unit * (Math.Sqrt(d) + 2)).Number(), 1e-12);
        var (value, gradient) = Vjp.Of(new NoiseNormLoss(NoiseNormKind.SquaredDeviation).Mean, zeros(1, d), null);
        Assert.Equal(d, value.Number(), 1e-4);
        Assert.Equal(0, gradient.abs().sum().Number());
        Assert.True(double.IsPositiveInfinity(new NoiseNormLoss(NoiseNormKind.ChiLogDensity).Mean(zeros(1, d)).Number()));
        Assert.Throws<ArgumentException>(() => new NoiseNormLoss(NoiseNormKind.ChiLogDensity).Mean(ones(2, 1)));
    }
}
