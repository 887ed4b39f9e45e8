using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Guidance by the exact classifier of the plane mixture: log p(component | x) and its derivatives are analytic.</summary>
public sealed class ClassifierGuidanceTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("ddim")]
    [InlineData("heun")]
    [InlineData("dpm++2m")]
    public void Exact_EqualsFiniteDifferencesAndAutomaticDifferentiation_DetachedDoesNot(string sampler)
    {
        using var scope = NewDisposeScope();
        var request = Request(sampler, exact: true, out var means);
        var direction = CounterNoise.Normal(new(77), [1, 2], ScalarType.Float64);
        var difference = GradientCheck.FiniteDifference(request, Loss, GradientCheck.NoiseName, direction, cancellationToken: Token);
        using var unrolled = Sampling.Differentiate(request, Loss, GradientMethod.StoreAll, Token);
        using var exact = Sampling.Differentiate(request, Loss, cancellationToken: Token);
        using var detached = Sampling.Differentiate(Request(sampler, exact: false, out _), Loss, cancellationToken: Token);
        Assert.InRange(TestScalars.RelativeError(exact.Noise, unrolled.Noise), 0, 1e-12);
        Assert.InRange(TestScalars.RelativeError(exact.Inputs["means"], unrolled.Inputs["means"]), 0, 1e-12);
        Assert.Equal(difference, exact.Noise.mul(direction).sum().Number(), 1e-6 * exact.Noise.norm().Number());
        var ofMeans = CounterNoise.Normal(new(78), [3, 2], ScalarType.Float64);
        Assert.Equal(GradientCheck.FiniteDifference(request, Loss, "means", ofMeans, cancellationToken: Token), exact.Inputs["means"].mul(ofMeans).sum().Number(), 1e-6 * exact.Inputs["means"].norm().Number());
        // The same sample; a gradient that lacks the Hessian.
        Assert.Equal(exact.Loss, detached.Loss, 1e-12);
        Assert.True(TestScalars.RelativeError(detached.Noise, exact.Noise) > 1e-2);
    }

    // What leaving -s sigma ∇² log p(y | x) out costs with DDIM: relative error, cosine and norm ratio of dL/dx_T, computed in numpy from hand-written second derivatives; and the exact gradient itself.
    [Theory]
    [InlineData(0.5, 10, 8.1868e-01, 0.99685, 1.8117e+00, 0.68776761, 0.63663359)]
    [InlineData(0.5, 40, 1.0778e+00, 0.99936, 2.0766e+00, 0.80096834, 0.88380149)]
    [InlineData(1, 20, 6.8523e-01, 0.97803, 1.6308e+00, 0.09183611, 0.29847278)]
    [InlineData(1, 80, 6.4863e-01, 0.97422, 1.5823e+00, 0.10690496, 0.3339348)]
    [InlineData(2, 20, 1.3319e+00, 0.93385, 2.2168e+00, -0.02123426, 0.15413866)]
    [InlineData(2, 80, 1.0759e+00, 0.94380, 1.9677e+00, -0.01649443, 0.19068494)]
    [InlineData(4, 10, 5.7425e+00, 0.59997, 6.2864e+00, -0.045871, -0.02988447)]
    [InlineData(4, 40, 1.8821e+00, 1.00000, 2.8821e+00, -0.10224561, 0.06616454)]
    [InlineData(8, 10, 1.2885e+00, 0.90069, 2.1137e+00, -0.15455228, -0.07306142)]
    [InlineData(8, 20, 1.4299e+00, 0.90240, 2.2659e+00, -0.16286549, -0.06238103)]
    [InlineData(8, 80, 1.3430e+00, 0.93428, 2.2291e+00, -0.18276744, -0.04013898)]
    public void Detached_LacksTheHessian_ByThisMuch(double scale, int steps, double error, double cosine, double ratio, double first, double second)
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.LogSnr(new LinearVp(), steps);
        using var exact = Sampling.Differentiate(Request("ddim", exact: true, out _, scale) with { Grid = grid }, Loss, cancellationToken: Token);
        using var detached = Sampling.Differentiate(Request("ddim", exact: false, out _, scale) with { Grid = grid }, Loss, cancellationToken: Token);
        var agreement = GradientCheck.Compare(detached, exact)[0];
        Assert.Equal(error, agreement.RelativeError, 1e-4 * error);
        Assert.Equal(cosine, agreement.Cosine, 1.1e-5);
        Assert.Equal(ratio, agreement.NormRatio, 1e-4 * ratio);
        Assert.All(exact.Noise.data<double>().Zip([first, second]), g => Assert.Equal(g.Second, g.First, 1e-8));
    }

    private static SampleRequest Request(string sampler, bool exact, out Tensor means, double scale = 3)
    {
        var schedule = new LinearVp();
        var centres = tensor(PlaneMixtureTests.Means, ScalarType.Float64).reshape(3, 2);
        means = centres;
        return new()
        {
            Field = NoiseField.From((x, t) => PlaneMixtureTests.Noise(x, schedule.At(t), centres)).WithClassifier((x, t) => Classify(x, schedule.At(t), centres), scale, exact).With("means", centres),
            Noise = tensor(PlaneMixtureTests.Start, ScalarType.Float64).unsqueeze(0),
            Grid = TimeGrid.LogSnr(schedule, 12, rhoMin: 0.2, rhoMax: 3),
            Sampler = Sampler.Named(sampler),
        };
    }

    // log p(component 1 | x): component i of x is N(a mu_i, (a s_i)² + sigma²) in each of two dimensions.
    private static Tensor Classify(Tensor x, NoiseLevel level, Tensor means)
    {
        double[] weights = [0.5, 0.3, 0.2], variances = [0.1, 0.2, 0.05];
        var total = variances.Select(v => (level.Alpha * level.Alpha * v) + (level.Sigma * level.Sigma)).ToArray();
        using var alpha = level.Alpha.ToScalar();
        Tensor logs = tensor(weights.Zip(total, (w, v) => Math.Log(w / v)).ToArray(), ScalarType.Float64), scales = tensor(total.Select(v => -0.5 / v).ToArray(), ScalarType.Float64);
        var distance = x.unsqueeze(1).sub(means.mul(alpha)).Squared().sum(dim: -1);
        return distance.mul(scales).add(logs, TestScalars.One).log_softmax(-1).select(1, 1);
    }

    private static Tensor Loss(Tensor x) => x.sin().sum();
}
