using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Gradients;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Samplers;

public sealed class MultistepTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(new double[] { 0, -1 }, new double[] { 1.5, -0.5 })]
    [InlineData(new double[] { 0, -1, -2 }, new double[] { 23.0 / 12, -16.0 / 12, 5.0 / 12 })]
    [InlineData(new double[] { 0, -1, -2, -3 }, new double[] { 55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24 })]
    public void AdamsBashforth_EqualSteps_HasTheTextbookWeights(double[] nodes, double[] expected)
        => Assert.All(Interpolation.InRho(nodes, 0, 1).Zip(expected), w => Assert.Equal(w.Second, w.First, 1e-14));

    [Fact]
    public void AdamsBashforth_UnequalSteps_IntegratesPolynomialsExactly()
    {
        double[] nodes = [2.0, 3.1, 5.5, 6];
        var weights = Interpolation.InRho(nodes, 2.0, 0.7);
        for (var p = 0; p < 4; p++)
            Assert.Equal((Math.Pow(0.7, p + 1) - Math.Pow(2, p + 1)) / (p + 1), nodes.Zip(weights, (x, w) => w * Math.Pow(x, p)).Sum(), 1e-12);
    }

    [Fact]
    public void Sample_InChunksOfTheBatch_DrawsTheSameNoise()
    {
        using var scope = NewDisposeScope();
        foreach (var sampler in Sampler.Known.Where(s => s.IsStochastic))
        {
            var request = Request(sampler, CounterNoise.Normal(new(3), [4, 5], ScalarType.Float64));
            using var whole = Sampling.Sample(request, Token);
            using var head = Sampling.Sample(request with { Noise = request.Noise.narrow(0, 0, 1) }, Token);
            using var tail = Sampling.Sample(request with { Noise = request.Noise.narrow(0, 1, 3), FirstSample = 1 }, Token);
            Assert.True(whole.Sample.equal(cat([head.Sample, tail.Sample], 0)).all().IsTrue(), sampler.Name);
            using var other = Sampling.Sample(request with { Key = new(4) }, Token);
            Assert.False(whole.Sample.equal(other.Sample).any().IsTrue(), sampler.Name);
        }
    }

    // For data N(m, s²) every sampler's result is Gaussian; fine grids must give the data's own moments.
    [Theory]
    [InlineData("ddpm")]
    [InlineData("sde-dpm++1")]
    [InlineData("sde-dpm++2m")]
    [InlineData("euler-maruyama")]
    [InlineData("edm")]
    [InlineData("dpm++2m")]
    [InlineData("ab2")]
    public void Sample_GaussianData_HasTheMomentsOfTheData(string sampler)
    {
        using var scope = NewDisposeScope();
        const double s = 0.5, m = 0.7;
        var grid = TimeGrid.LogSnr(new LinearVp(), 200);
        var request = ClosedFormTests.GaussianRequest(grid, Sampler.Named(sampler), s, tensor(m, ScalarType.Float64)) with { Noise = CounterNoise.Normal(new(1), [20_000], ScalarType.Float64) };
        using var result = Sampling.Sample(request, Token);
        Assert.Equal(m, result.Sample.mean().Number(), 0.02);
        Assert.Equal(s, result.Sample.std().Number(), 0.03);
    }

    [Fact]
    public void DdimWithNoise_NoEta_IsDdim()
    {
        Assert.Same(Sampler.Ddim, Sampler.DdimWithNoise(0));
        Assert.Equal("ddim(eta=0.5)", Sampler.DdimWithNoise(0.5).Name);
        Assert.Throws<ArgumentOutOfRangeException>(() => Sampler.DdimWithNoise(1.5));
    }

    [Theory]
    [InlineData("dpm++2m", "ButcherTableau.Heun")]
    [InlineData("ab2", "ButcherTableau.Heun")]
    [InlineData("ddpm", "GradientMethod.Discrete")]
    public void Continuous_SamplerWithoutAWayBack_SaysWhatToUse(string sampler, string advice)
    {
        using var scope = NewDisposeScope();
        var request = Request(Sampler.Named(sampler), ones([1, 5], ScalarType.Float64));
        Assert.Contains(advice, Assert.Throws<NotSupportedException>(() => Sampling.Differentiate(request, x => x.sum(), GradientMethod.Continuous(), Token)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Continuous_MultistepSamplerWithHeunBack_ApproachesItsGradient()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.DpmSolver2M, "none", out _) with { Grid = TimeGrid.LogSnr(new LinearVp(), 80, rhoMin: 0.5, rhoMax: 1.5) };
        var agreement = GradientCheck.Run(request, x => x.Squared().mean(), GradientMethod.Continuous(ButcherTableau.Heun), cancellationToken: Token);
        Assert.All(agreement, a => Assert.InRange(a.RelativeError, 1e-9, 5e-3));
    }

    private static SampleRequest Request(Sampler sampler, Tensor noise) => new()
    {
        Field = NoiseField.From((x, _) => x.sin()),
        Noise = noise,
        Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 5),
        Sampler = sampler,
        Key = new(3),
    };
}
