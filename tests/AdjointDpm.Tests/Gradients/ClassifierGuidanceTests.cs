using AdjointDpm.Gradients;
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
        Assert.Equal(difference, exact.Noise.mul(direction).sum().ToDouble(), 1e-6 * exact.Noise.norm().ToDouble());
        var ofMeans = CounterNoise.Normal(new(78), [3, 2], ScalarType.Float64);
        Assert.Equal(GradientCheck.FiniteDifference(request, Loss, "means", ofMeans, cancellationToken: Token), exact.Inputs["means"].mul(ofMeans).sum().ToDouble(), 1e-6 * exact.Inputs["means"].norm().ToDouble());
        // The same sample; a gradient that lacks the Hessian.
        Assert.Equal(exact.Loss, detached.Loss, 1e-12);
        Assert.True(TestScalars.RelativeError(detached.Noise, exact.Noise) > 1e-2);
    }

    private static SampleRequest Request(string sampler, bool exact, out Tensor means)
    {
        var schedule = new LinearVp();
        var centres = tensor(PlaneMixtureTests.Means, ScalarType.Float64).reshape(3, 2);
        means = centres;
        return new()
        {
            Field = NoiseField.From((x, t) => PlaneMixtureTests.Noise(x, schedule.At(t), centres)).WithClassifier((x, t) => Classify(x, schedule.At(t), centres), 3, exact).With("means", centres),
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
        var distance = x.unsqueeze(1).sub(means.mul(alpha)).square().sum(dim: -1);
        return distance.mul(scales).add(logs, TestScalars.One).log_softmax(-1).select(1, 1);
    }

    private static Tensor Loss(Tensor x) => x.sin().sum();
}
