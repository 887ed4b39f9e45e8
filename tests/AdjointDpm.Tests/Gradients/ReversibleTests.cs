using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

public sealed class ReversibleTests
{
    private static readonly Dictionary<string, ButcherTableau> Tableaus = new[] { ButcherTableau.Euler, ButcherTableau.Midpoint, ButcherTableau.Heun, ButcherTableau.Rk4, ButcherTableau.Bosh3, ButcherTableau.Dopri5 }.ToDictionary(t => t.Name);

    [Theory]
    [InlineData("midpoint", 20)]
    [InlineData("midpoint", 100)]
    [InlineData("heun", 50)]
    [InlineData("bosh3", 100)]
    [InlineData("rk4", 100)]
    [InlineData("dopri5", 40)]
    public void RoundTrip_NoiseToSampleAndBack_IsExactToRounding(string tableau, int steps)
    {
        using var scope = NewDisposeScope();
        var sampler = new ReversibleSampler(Tableaus[tableau]);
        Assert.InRange(RoundTrip(sampler, Mixture(sampler, steps, out _)), 0, 1e-12);
        Assert.InRange(RoundTrip(sampler, ClosedFormTests.GaussianRequest(TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps), sampler, 0.5, full(1, 0.7, ScalarType.Float64))), 0, 1e-12);
    }

    [Theory]
    [InlineData("euler", 20)]
    [InlineData("midpoint", 12)]
    [InlineData("heun", 30)]
    [InlineData("rk4", 8)]
    [InlineData("rk4", 40)]
    [InlineData("dopri5", 5)]
    public void Gradient_EqualsAutomaticDifferentiationThroughTheSameSampler(string tableau, int steps)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var sampler = new ReversibleSampler(Tableaus[tableau]);
        var grid = Moderate(steps);
        TimeGrid toTheEnd = new(grid.Schedule, [.. grid.Points, new GridPoint(0, new(1, 0))]);
        foreach (var request in new[] { net.Request(sampler, "none", out _) with { Grid = grid }, net.Request(sampler, "batched", out _) with { Grid = toTheEnd }, Mixture(sampler, steps, out _) })
        {
            using var expected = Sampling.Differentiate(request, Loss, GradientMethod.StoreAll, TestContext.Current.CancellationToken);
            using var discrete = Sampling.Differentiate(request, Loss, GradientMethod.Discrete, TestContext.Current.CancellationToken);
            using var actual = Sampling.Differentiate(request, Loss, GradientMethod.Reversible, TestContext.Current.CancellationToken);
            Assert.InRange(TestScalars.RelativeError(actual.Noise, expected.Noise), 0, 1e-11);
            Assert.InRange(TestScalars.RelativeError(discrete.Noise, expected.Noise), 0, 1e-12);
            foreach (var (name, gradient) in expected.Inputs)
                Assert.InRange(TestScalars.RelativeError(actual.Inputs[name], gradient), 0, 1e-11);
            // A last step to rho = 0 is undone without evaluating.
            var ofStep = 2 * Tableaus[tableau].SolutionStages;
            Assert.Equal((steps * ofStep) + (request.Grid.Steps - steps), actual.Statistics.ForwardNfe);
            Assert.Equal(steps * ofStep, actual.Statistics.Recomputed);
            // With the sample taken from y, the last step's second half leads nowhere.
            Assert.InRange(actual.Statistics.Vjps, 1, actual.Statistics.ForwardNfe);
        }
    }

    [Theory]
    [InlineData("midpoint", 100)]
    [InlineData("rk4", 30)]
    public void Gradient_EqualsFiniteDifferences(string tableau, int steps)
    {
        using var scope = NewDisposeScope();
        var sampler = new ReversibleSampler(Tableaus[tableau]);
        var request = Mixture(sampler, steps, out var means);
        using var result = Sampling.Differentiate(request, Loss, GradientMethod.Reversible, TestContext.Current.CancellationToken);
        const double h = 1e-5;
        Close((At(h, 0) - At(-h, 0)) / (2 * h), result.Noise.Number());
        Close((At(0, h) - At(0, -h)) / (2 * h), result.Inputs["means"][1].Number());

        double At(double ofNoise, double ofMean)
        {
            using Scalar noise = ofNoise.ToScalar(), mean = ofMean.ToScalar(), back = (-ofMean).ToScalar();
            means[1].add_(mean);
            using var sample = Sampling.Sample(request with { Noise = request.Noise.add(noise, TestScalars.One) }, TestContext.Current.CancellationToken);
            means[1].add_(back);
            return Loss(sample.Sample).Number();
        }

        static void Close(double expected, double actual) => Assert.Equal(expected, actual, 1e-8 + (1e-6 * Math.Abs(expected)));
    }

    [Fact]
    public void Memory_DoesNotGrowWithTheSteps()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        long Peak(GradientMethod method, int steps)
        {
            using var result = Sampling.Differentiate(net.Request(new ReversibleSampler(ButcherTableau.Midpoint), "none", out _) with { Grid = Moderate(steps) }, Loss, method, TestContext.Current.CancellationToken);
            return result.Statistics.PeakLiveTensors;
        }

        Assert.Equal(Peak(GradientMethod.Reversible, 10), Peak(GradientMethod.Reversible, 80));
        Assert.True(Peak(GradientMethod.Discrete, 80) > Peak(GradientMethod.Discrete, 10) + 70);
    }

    // On Gaussian data the flow is known: z_0 = m + (z_T - m) sqrt((s² + rho_0²) / (s² + rho_T²)).
    [Theory]
    [InlineData("midpoint", 40)]
    [InlineData("rk4", 20)]
    public void Coupling_KeepsTheOrderOfItsMethod(string tableau, int coarse)
    {
        using var scope = NewDisposeScope();
        // On such grids the difference of y and ŷ still counts; it falls with one order more.
        var order = Math.Log2(Error(coarse) / Error(2 * coarse));
        Assert.InRange(order, Tableaus[tableau].Order - 0.15, Tableaus[tableau].Order + 1.15);

        double Error(int steps)
        {
            var grid = TimeGrid.LogSnr(new LinearVp(), steps, rhoMax: 5);
            using var result = Sampling.Sample(ClosedFormTests.GaussianRequest(grid, new ReversibleSampler(Tableaus[tableau]), 0.5, full(1, 0.7, ScalarType.Float64)), TestContext.Current.CancellationToken);
            double start = grid.Start.Rho, end = grid.End.Rho;
            var exact = grid.End.Level.Alpha * (0.7 + (((1.3 / grid.Start.Level.Alpha) - 0.7) * Math.Sqrt((0.25 + (end * end)) / (0.25 + (start * start)))));
            return Math.Abs(result.Sample.Number() - exact);
        }
    }

    [Fact]
    public void WrongUse_SaysWhatToUse()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        Assert.Contains("ReversibleSampler", Assert.Throws<NotSupportedException>(() => Sampling.Differentiate(net.Request(Sampler.Heun, "none", out _), Loss, GradientMethod.Reversible, TestContext.Current.CancellationToken)).Message);
        Assert.Throws<ArgumentOutOfRangeException>(() => new ReversibleSampler(ButcherTableau.Rk4, 1));
    }

    private static double RoundTrip(ReversibleSampler sampler, SampleRequest request)
    {
        using var scope = NewDisposeScope();
        using var grad = no_grad();
        var solve = new Solve(request, guarded: false, TestContext.Current.CancellationToken);
        var start = solve.Start(request.Noise);
        var state = solve.Walk(start with { Slots = [start.Y.clone()] }, solve.Evaluate);
        for (var n = request.Grid.Steps - 1; n >= 0; n--)
            state = Stepping.Apply(sampler.PlanBack(request.Grid, n), state, solve.EvaluateAgain(n));
        return TestScalars.RelativeError(state.Y, start.Y);
    }

    // The noise levels of Stable Diffusion over an ideal denoiser.
    private static SampleRequest Mixture(ReversibleSampler sampler, int steps, out Tensor means)
    {
        means = cat([full(1, -1.0, ScalarType.Float64), full(1, 1.0, ScalarType.Float64)], 0);
        return ClosedFormTests.MixtureRequest(sampler, steps, means) with { Grid = TimeGrid.LogSnr(new VarianceExploding(), steps, rhoMin: 0.03, rhoMax: 14.6), Noise = full(1, 5.0, ScalarType.Float64) };
    }

    // Random weights do not denoise: over a wide range they contract by far more than any network does.
    private static TimeGrid Moderate(int steps) => TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps, rhoMin: 0.2, rhoMax: 2);

    private static Tensor Loss(Tensor sample) => sample.sin().Squared().mean();
}
