using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>A convolutional noise predictor of 2 → 4 → 2 channels with time and conditioning, in float64 and with weights from the counter: small enough for milliseconds, nonlinear enough to tell gradients apart.</summary>
internal sealed class TinyDenoiser : nn.Module
{
    private static readonly Scalar Period = 0.003.ToScalar();
    private readonly TorchSharp.Modules.Parameter first, second, time, condition;

    public TinyDenoiser()
        : base(nameof(TinyDenoiser))
    {
        first = Weight(0, 0.4, 4, 2, 3, 3);
        second = Weight(1, 0.4, 2, 4, 3, 3);
        time = Weight(2, 0.5, 4);
        condition = Weight(3, 0.7, 4, 3);
        RegisterComponents();
    }

    public static long[] Shape { get; } = [2, 2, 4, 4];

    /// <summary>x [B, 2, H, W] with conditioning [B, 3].</summary>
    public Tensor Predict(Tensor x, double t, Tensor c)
    {
        using var angle = t.ToScalar();
        var wave = time.mul(angle).mul(Period).sin().view(1, 4, 1, 1);
        var context = c.matmul(condition.t()).unsqueeze(-1).unsqueeze(-1);
        var hidden = nn.functional.conv2d(x, first, padding: [1L, 1L]).add(wave, TestScalars.One).add(context, TestScalars.One);
        return nn.functional.conv2d(nn.functional.silu(hidden), second, padding: [1L, 1L]);
    }

    /// <summary>A sampling request with weights and conditioning declared; guided runs use the empty conditioning too.</summary>
    public SampleRequest Request(Sampler sampler, string guidance, out Tensor c, int steps = 6)
    {
        var conditioning = CounterNoise.Normal(new(5), [2, 3], ScalarType.Float64);
        var empty = CounterNoise.Normal(new(6), [2, 3], ScalarType.Float64);
        c = conditioning;
        var field = guidance switch
        {
            "none" => NoiseField.From((x, t) => Predict(x, t, conditioning)),
            "sequential" => NoiseField.Guided((x, t) => Predict(x, t, empty), (x, t) => Predict(x, t, conditioning), 2.5),
            "batched" => NoiseField.GuidedBatched((x, t) => Predict(x, t, cat([empty, conditioning], 0)), 2.5).With("empty", empty),
            _ => throw new ArgumentException(guidance),
        };
        if (guidance == "sequential")
            field = field.With("empty", empty);
        return new()
        {
            Field = field.With("conditioning", conditioning).With("net", this),
            Noise = CounterNoise.Normal(new(7), Shape, ScalarType.Float64),
            Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps),
            Sampler = sampler,
        };
    }

    /// <summary>The same on a grid of moderate noise, where the untrained network keeps its states moderate too, as finite differences need.</summary>
    public SampleRequest ModerateRequest(Sampler sampler, string guidance, out Tensor c, int steps = 6)
        => Request(sampler, guidance, out c) with { Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps, rhoMin: 0.2, rhoMax: 2) };

    private static TorchSharp.Modules.Parameter Weight(ushort draw, double scale, params long[] shape)
    {
        using var s = scale.ToScalar();
        return nn.Parameter(CounterNoise.Normal(new(11, Draw: draw), shape, ScalarType.Float64).mul(s));
    }
}

/// <summary>Constants for tensor arithmetic, rooted: an implicit scalar may be collected during the native call.</summary>
internal static class TestScalars
{
    public static readonly Scalar One = 1.0.ToScalar();

    /// <summary>‖a − b‖ / ‖b‖.</summary>
    public static double RelativeError(Tensor a, Tensor b)
    {
        using var scope = NewDisposeScope();
        return a.sub(b).norm().Number() / b.norm().Number();
    }
}
