using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Gradients;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Samplers;

public sealed class ConvergenceTests
{
    public static TheoryData<string> All() => [.. Sampler.Known.Select(s => s.Name)];

    public static TheoryData<string> RungeKutta() => [.. Sampler.Known.Where(s => s.Backward is not null).Select(s => s.Name)];

    // Orders are measured on the plans; that tensors do as plans say is measured here.
    [Theory]
    [MemberData(nameof(All))]
    public void Sample_EverySampler_CarriesOutItsPlans(string name)
    {
        using var scope = NewDisposeScope();
        var means = cat([full(1, -1.0, ScalarType.Float64), full(1, 1.0, ScalarType.Float64)], 0);
        var request = ClosedFormTests.MixtureRequest(Sampler.Named(name), 20, means) with { Key = new(8) };
        using var result = Sampling.Sample(request, TestContext.Current.CancellationToken);
        var draw = new double[1];
        var expected = ScalarWalk.Run(request.Sampler, request.Grid, 16, OrderTests.Mixture, (step, index) =>
        {
            CounterNoise.Fill(new(8, Draw: (ushort)(1 + (4 * step) + index)), 0, draw);
            return draw[0];
        });
        Assert.Equal(expected, result.Sample.Number(), 1e-12);
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
            using Scalar keep = (t.Level.Alpha / s.Level.Alpha).ToScalar(), move = (-t.Level.Sigma * Accurate.Expm1(t.Level.Lambda - s.Level.Lambda)).ToScalar();
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
            Assert.True(first.Sample.equal(second.Sample).all().IsTrue(), sampler.Name);
        }
    }

    private static double Gap(Sampler sampler, int steps)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(sampler, "none", out _, steps) with { Grid = TimeGrid.LogSnr(new LinearVp(), steps, rhoMin: 0.5, rhoMax: 1.5) };
        using var discrete = Sampling.Differentiate(request, x => x.Squared().mean(), cancellationToken: TestContext.Current.CancellationToken);
        using var continuous = Sampling.Differentiate(request, x => x.Squared().mean(), GradientMethod.Continuous(), TestContext.Current.CancellationToken);
        return Math.Max(TestScalars.RelativeError(continuous.Noise, discrete.Noise), TestScalars.RelativeError(continuous.Inputs["conditioning"], discrete.Inputs["conditioning"]));
    }
}
