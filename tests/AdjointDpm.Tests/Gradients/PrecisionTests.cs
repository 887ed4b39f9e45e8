using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>The precision that networks run in: float32 throughout, and a float64 state around a float32 network.</summary>
public sealed class PrecisionTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static TheoryData<string> Samplers() => [.. Sampler.Known.Select(s => s.Name)];

    [Theory]
    [MemberData(nameof(Samplers))]
    public void SinglePrecision_EverySampler_EqualsAutomaticDifferentiation(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        net.to(ScalarType.Float32);
        Tensor c = CounterNoise.Normal(new(5), [2, 3]), empty = CounterNoise.Normal(new(6), [2, 3]);
        var request = new SampleRequest
        {
            Field = (NoiseField.Guided((x, t) => net.Predict(x.to(ScalarType.Float32), t, empty), (x, t) => net.Predict(x.to(ScalarType.Float32), t, c), 2.5) with { Prediction = Prediction.Velocity }).With("empty", empty).With("conditioning", c).With("net", net),
            Noise = CounterNoise.Normal(new(7), TinyDenoiser.Shape),
            Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 8, 0.1, 8),
            Sampler = Sampler.Named(sampler),
            Key = new(9),
        };
        foreach (var dtype in new[] { ScalarType.Float32, ScalarType.Float64 })
        {
            using var expected = Sampling.Differentiate(request with { Noise = request.Noise.to(dtype) }, Loss, GradientMethod.StoreAll, Token);
            using var actual = Sampling.Differentiate(request with { Noise = request.Noise.to(dtype) }, Loss, GradientMethod.Discrete, Token);
            Assert.Equal(dtype, actual.Noise.dtype);
            Assert.All(actual.Inputs.Values, g => Assert.Equal(ScalarType.Float32, g.dtype));
            Assert.All(GradientCheck.Compare(actual, expected), a => Assert.True(a.RelativeError <= 1e-5, $"{a}"));
        }
    }

    private static Tensor Loss(Tensor sample) => sample.sin().Squared().mean();
}
