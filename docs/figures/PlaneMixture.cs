using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Figures;

/// <summary>Three Gaussians in the plane, whose noise is analytic: steps are the only error. Many samples at once, so that no figure rests on a lucky one.</summary>
internal sealed class PlaneMixture(int samples)
{
    private static readonly double[] Weights = [0.5, 0.3, 0.2], Variances = [0.1, 0.2, 0.05];

    private readonly Tensor _means = tensor(new double[,] { { 2, 0 }, { -1.5, 1 }, { 0, -2 } });
    private readonly Tensor _target = tensor(new double[] { 1, 1 });
    private readonly Tensor _noise = CounterNoise.Normal(new(Seed: 1), [samples, 2], ScalarType.Float64);

    public static LinearVp Schedule { get; } = new();

    public static StepControl Tolerance(double tolerance) => new() { Relative = tolerance, Absolute = tolerance, MaxSteps = 100_000 };

    public SampleRequest Request(Sampler sampler, int steps) => new()
    {
        Field = NoiseField.From((x, t) => Noise(x, Schedule.At(t))).With("means", _means),
        Noise = _noise,
        Grid = TimeGrid.LogSnr(Schedule, steps),
        Sampler = sampler,
    };

    /// <summary>The samples of the exact flow, to twelve digits.</summary>
    public Tensor Exact() => Sampling.Sample(Request(new AdaptiveSampler(ButcherTableau.Dopri8, Tolerance(1e-13)), 1)).Sample;

    /// <summary>Gradients of half the mean squared distance to (1, 1).</summary>
    public SampleGradients Gradient(Sampler sampler, int steps, GradientMethod? method = null)
    {
        using var weight = (0.5 / samples).ToScalar();
        return Sampling.Differentiate(Request(sampler, steps), x => x.sub(_target).square().sum().mul(weight), method);
    }

    private Tensor Noise(Tensor x, NoiseLevel level)
    {
        var (a, s) = level;
        var v = Variances.Select(q => (a * a * q) + (s * s)).ToArray();
        using Scalar alpha = a.ToScalar(), half = (-0.5).ToScalar(), sigma = s.ToScalar();
        var variance = tensor(v);
        var toMean = _means.mul(alpha).sub(x.unsqueeze(1));
        var prior = tensor(Weights.Zip(v, (w, q) => Math.Log(w) - Math.Log(q)).ToArray());
        var posterior = prior.add(toMean.mul(toMean).sum(-1).div(variance), half).softmax(-1);
        return posterior.div(variance).unsqueeze(-1).mul(toMean).sum(1).neg().mul(sigma);
    }
}
