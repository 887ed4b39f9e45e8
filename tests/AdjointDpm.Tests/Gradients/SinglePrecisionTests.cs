using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Gradients in float32: their own rounding, no more.</summary>
public sealed class SinglePrecisionTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("ddim")]
    [InlineData("heun")]
    [InlineData("dpm++2m")]
    [InlineData("sde-dpm++2m")]
    public void Discrete_SinglePrecision_EqualsAutomaticDifferentiation(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var doubled = net.Request(Sampler.Named(sampler), "none", out _) with { Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 4, 0.3, 1.5) };
        using var exact = Sampling.Differentiate(doubled, Loss, cancellationToken: Token);
        var c = doubled.Field.Inputs[0].Value.to(ScalarType.Float32);
        net.to(ScalarType.Float32);
        var request = doubled with { Field = NoiseField.From((x, t) => net.Predict(x, t, c)).With("conditioning", c).With("net", net), Noise = doubled.Noise.to(ScalarType.Float32) };
        using var expected = Sampling.Differentiate(request, Loss, GradientMethod.StoreAll, Token);
        using var actual = Sampling.Differentiate(request, Loss, cancellationToken: Token);
        Assert.Equal(ScalarType.Float32, actual.Noise.dtype);
        Assert.All(GradientCheck.Compare(actual, expected), a => Assert.True(a.RelativeError <= 1e-6, $"{a}"));
        Assert.InRange(TestScalars.RelativeError(actual.Noise.to(ScalarType.Float64), exact.Noise), 1e-9, 1e-4);
        Assert.All(exact.Inputs, i => Assert.InRange(TestScalars.RelativeError(actual.Inputs[i.Key].to(ScalarType.Float64), i.Value), 1e-9, 1e-4));
    }

    private static Tensor Loss(Tensor sample) => sample.Squared().mean().log();
}
