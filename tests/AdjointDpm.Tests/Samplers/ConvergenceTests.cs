using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Gradients;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Samplers;

public sealed class ConvergenceTests
{
    public static TheoryData<string> Deterministic() => [.. Sampler.Known.Where(s => !s.IsStochastic).Select(s => s.Name)];

    public static TheoryData<string> RungeKutta() => [.. Sampler.Known.Where(s => s.Backward is not null).Select(s => s.Name)];

    [Theory]
    [MemberData(nameof(Deterministic))]
    public void Sample_GridsRefined_ConvergesWithTheSamplersOrder(string name)
    {
        var sampler = Sampler.Named(name);
        // Extrapolating methods reach their order later.
        int[] steps = name is "ab3" or "ab4" ? [640, 1280] : [160, 320];
        var errors = steps.Select(n => Error(sampler, n)).ToArray();
        Assert.True(Math.Abs(sampler.Order - Math.Log2(errors[0] / errors[1])) < 0.15, $"order {Math.Log2(errors[0] / errors[1]):f2}, errors {errors[0]:e2}, {errors[1]:e2}");
    }

    [Theory]
    [MemberData(nameof(RungeKutta))]
    public void Continuous_GridsRefined_ApproachesTheDiscreteGradientWithTheSamplersOrder(string name)
    {
        var sampler = Sampler.Named(name);
        int[] steps = sampler.Order > 2 ? [10, 20] : [40, 80];
        var gaps = steps.Select(n => Gap(sampler, n)).ToArray();
        Assert.True(Math.Log2(gaps[0] / gaps[1]) > sampler.Order - 0.15, $"order {Math.Log2(gaps[0] / gaps[1]):f2}, gaps {gaps[0]:e2}, {gaps[1]:e2}");
    }

    [Fact]
    public void Ddim_InItsOwnCoordinates_IsEulerInRho()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out var c);
        using var result = Sampling.Sample(request, TestContext.Current.CancellationToken);

        // x_t = (alpha_t / alpha_s) x_s - sigma_t (e^h - 1) eps, h = lambda_t - lambda_s: Song et al. (2021), equation 12.
        using var grad = no_grad();
        var x = request.Noise;
        for (var n = 0; n < request.Grid.Steps; n++)
        {
            var (s, t) = (request.Grid.Points[n], request.Grid.Points[n + 1]);
            using Scalar keep = (t.Level.Alpha / s.Level.Alpha).ToScalar(), move = (-t.Level.Sigma * double.ExpM1(t.Level.Lambda - s.Level.Lambda)).ToScalar();
            x = x.mul(keep).add(net.Predict(x, s.Time, c), move);
        }

        Assert.InRange(TestScalars.RelativeError(result.Sample, x), 0, 1e-14);
    }

    [Fact]
    public void Sample_TwiceWithOneSampler_GivesEqualBits()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        foreach (var sampler in Sampler.Known)
        {
            var request = net.Request(sampler, "none", out _);
            using var first = Sampling.Sample(request, TestContext.Current.CancellationToken);
            using var second = Sampling.Sample(request, TestContext.Current.CancellationToken);
            Assert.True(first.Sample.equal(second.Sample).all().ToBoolean(), sampler.Name);
        }
    }

    private static double Error(Sampler sampler, int steps)
    {
        using var scope = NewDisposeScope();
        var means = cat([full(1, -1.0, ScalarType.Float64), full(1, 1.0, ScalarType.Float64)], 0);
        using var result = Sampling.Sample(ClosedFormTests.MixtureRequest(sampler, steps, means), TestContext.Current.CancellationToken);
        return Math.Abs(result.Sample.ToDouble() - ClosedFormTests.MixtureSample);
    }

    private static double Gap(Sampler sampler, int steps)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(sampler, "none", out _, steps) with { Grid = TimeGrid.LogSnr(new LinearVp(), steps, rhoMin: 0.5, rhoMax: 1.5) };
        using var discrete = Sampling.Differentiate(request, x => x.square().mean(), cancellationToken: TestContext.Current.CancellationToken);
        using var continuous = Sampling.Differentiate(request, x => x.square().mean(), GradientMethod.Continuous(), TestContext.Current.CancellationToken);
        return Math.Max(TestScalars.RelativeError(continuous.Noise, discrete.Noise), TestScalars.RelativeError(continuous.Inputs["conditioning"], discrete.Inputs["conditioning"]));
    }
}
