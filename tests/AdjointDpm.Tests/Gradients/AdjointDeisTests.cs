using System.Collections.Immutable;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>AdjointDEIS: what it is equal to, its orders for the flow and along Brownian paths, its costs and limits.</summary>
public sealed class AdjointDeisTests
{
    private static readonly NoiseSchedule Schedule = new LinearVp();

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("ddim")]
    [InlineData("heun")]
    [InlineData("dpm++2m")]
    [InlineData("unipc2")]
    public void OrderOne_ProbabilityFlow_IsEulersContinuousAdjoint(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Named(sampler), "sequential", out _);
        var objective = new Objective
        {
            OnSample = x => x.Squared().mean().log(),
            OnStates = ImmutableSortedDictionary<int, Func<Tensor, Tensor>>.Empty.Add(0, x => x.cos().mean()).Add(3, x => x.Squared().mean()),
            KeepStateGradients = true,
        };
        using var expected = Sampling.Differentiate(request, objective, GradientMethod.Continuous(ButcherTableau.Euler), Token);
        using var actual = Sampling.Differentiate(request, objective, GradientMethod.AdjointDeis(), Token);
        Assert.Equal(expected.Loss, actual.Loss);
        Assert.All(GradientCheck.Compare(actual, expected), a => Assert.InRange(a.RelativeError, 0, 1e-13));
        Assert.All(actual.States.Zip(expected.States), s => Assert.InRange(TestScalars.RelativeError(s.First, s.Second), 0, 1e-13));
    }

    [Fact]
    public void OrderTwo_SamplerInOtherCoordinates_SeesTheSameStates()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Ddim, "none", out _);
        using var expected = Sampling.Differentiate(request, x => x.Squared().sum(), GradientMethod.AdjointDeis(2), Token);
        using var actual = Sampling.Differentiate(request with { Sampler = Sampler.FlowEuler }, x => x.Squared().sum(), GradientMethod.AdjointDeis(2), Token);
        Assert.All(GradientCheck.Compare(actual, expected), a => Assert.InRange(a.RelativeError, 0, 1e-12));
    }

    // Data N(m, s²), dy = (1 + tau²) rho (y - m) / (s² + rho²) drho + noise: each step multiplies p by 1 - (1 + tau²) h rho_b / (s² + rho_b²).
    [Theory]
    [InlineData("ddim", 0)]
    [InlineData("euler-maruyama", 1)]
    [InlineData("ddpm", 1)]
    [InlineData("sde-dpm++2m", 1)]
    [InlineData("ddim(eta=0.5)", 0.5)]
    public void OrderOne_GaussianData_CountsTheDriftOnceMoreForTheNoise(string sampler, double tau)
    {
        using var scope = NewDisposeScope();
        const double s = 0.5;
        var grid = TimeGrid.LogSnr(Schedule, 30, 0.05, 20);
        var mean = tensor(0.7, ScalarType.Float64);
        using var result = Sampling.Differentiate(ClosedFormTests.GaussianRequest(grid, Named(sampler), s, mean), x => x.sum(), GradientMethod.AdjointDeis(), Token);
        double gain = 1, ofMean = 0;
        for (var n = grid.Steps - 1; n >= 0; n--)
        {
            double a = grid.Points[n].Rho, b = grid.Points[n + 1].Rho, share = (1 + (tau * tau)) * (a - b) * b / ((s * s) + (b * b));
            ofMean += gain * share;
            gain *= 1 - share;
        }

        var (start, end) = (grid.Start.Level.Alpha, grid.End.Level.Alpha);
        Assert.Equal(1, result.Noise.Number() / (end / start * gain), 1e-12);
        Assert.Equal(1, result.Inputs["mean"].Number() / (end * ofMean), 1e-12);
        // The drift is doubled, so are steps: the factor 1.22 is fine for the flow and for the noise.
        Assert.Empty(result.Statistics.Warnings);
    }

    // 2M by hand: equation 2.15 in x, with a line through the two latest products.
    [Fact]
    public void OrderTwo_GaussianData_IsThePapersFormula()
    {
        using var scope = NewDisposeScope();
        const double s = 0.5;
        var grid = TimeGrid.Karras(Schedule, 12, 0.05, 20);
        using var result = Sampling.Differentiate(ClosedFormTests.GaussianRequest(grid, Sampler.Heun, s, tensor(0.7, ScalarType.Float64)), x => x.sum(), GradientMethod.AdjointDeis(2), Token);
        double a = 1, older = 0;
        for (var n = grid.Steps - 1; n >= 0; n--)
        {
            var (back, at) = (grid.Points[n].Level, grid.Points[n + 1].Level);
            var h = back.Lambda - at.Lambda;
            // alpha² aᵀ ∂eps/∂x, with ∂eps/∂x = (rho / (s² + rho²)) / alpha.
            var v = at.Alpha * a * at.Rho / ((s * s) + (at.Rho * at.Rho));
            var weight = back.Sigma * Accurate.Expm1(h) / (back.Alpha * back.Alpha);
            var next = (at.Alpha / back.Alpha * a) + (weight * v);
            if (n < grid.Steps - 1)
                next += weight / (2 * (at.Lambda - grid.Points[n + 2].Level.Lambda) / h) * (v - older);
            (a, older) = (next, v);
        }

        Assert.Equal(1, result.Noise.Number() / a, 1e-12);
    }

    // Against the gradient of a solve so fine that it is the equation's: x_T, conditioning and weights, slope of the error over 40, 80 and 160 steps.
    [Theory]
    [InlineData("mixture", "ddim", 1)]
    [InlineData("mixture", "heun", 2)]
    [InlineData("mixture", "dpm++2m", 2)]
    [InlineData("network", "ddim", 1)]
    [InlineData("network", "heun", 2)]
    [InlineData("network", "dpm++2m", 2)]
    public void ProbabilityFlow_StepsRefined_ConvergesWithTheOrder(string field, string sampler, int order)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = field == "network" ? Network(net) : Mixture();
        Func<Tensor, Tensor> loss = field == "network" ? x => x.Squared().mean() : x => x.sub(Target).Squared().sum();
        using var exact = Sampling.Differentiate(request(Sampler.Rk4, field == "network" ? 60 : 120), loss, cancellationToken: Token);
        int[] steps = [40, 80, 160];
        var errors = steps.Select(n =>
        {
            using var result = Sampling.Differentiate(request(Sampler.Named(sampler), n), loss, GradientMethod.AdjointDeis(order), Token);
            Assert.Equal(n, result.Statistics.BackwardNfe);
            Assert.Equal(n, result.Statistics.Vjps);
            return GradientCheck.Compare(result, exact);
        }).ToArray();
        Assert.All(Enumerable.Range(0, errors[0].Count), i => AssertOrder(order, steps, [.. errors.Select(e => e[i].RelativeError)], errors[0][i].Name));
    }

    // Linear equation: the Jacobian does not depend on the path, and the pathwise gradient is closed form, ((s² + rho_0²) / (s² + rho_T²))^((1 + tau²) / 2).
    [Theory]
    [InlineData("euler-maruyama", 1, 1)]
    [InlineData("euler-maruyama", 1, 2)]
    [InlineData("sde-dpm++1", 1, 2)]
    [InlineData("ddim(eta=0.5)", 0.5, 2)]
    [InlineData("ddim", 0, 2)]
    public void GaussianData_StepsRefined_ConvergesToThePathwiseGradient(string sampler, double tau, int order)
    {
        using var scope = NewDisposeScope();
        const double s = 0.5;
        int[] steps = [40, 80, 160];
        var mean = tensor(0.7, ScalarType.Float64);
        List<double> ofNoise = [], ofMean = [];
        foreach (var n in steps)
        {
            var grid = TimeGrid.LogSnr(Schedule, n, 0.2, 3);
            using var result = Sampling.Differentiate(ClosedFormTests.GaussianRequest(grid, Named(sampler), s, mean), x => x.sum(), GradientMethod.AdjointDeis(order), Token);
            double start = grid.Start.Rho, end = grid.End.Rho, ratio = Math.Pow(((s * s) + (end * end)) / ((s * s) + (start * start)), (1 + (tau * tau)) / 2);
            ofNoise.Add(Math.Abs((result.Noise.Number() / (grid.End.Level.Alpha / grid.Start.Level.Alpha * ratio)) - 1));
            ofMean.Add(Math.Abs((result.Inputs["mean"].Number() / (grid.End.Level.Alpha * (1 - ratio))) - 1));
        }

        AssertOrder(order, steps, ofNoise, "x_T");
        AssertOrder(order, steps, ofMean, "mean");
    }

    // Coarse and fine walk one Brownian path for each of 128 samples; the fine gradient is exact. Both orders are of strong order 1: the Jacobian is as rough as the path.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Mixture_OneBrownianPathRefined_ConvergesStronglyWithOrderOne(int order)
    {
        using var scope = NewDisposeScope();
        var fine = TimeGrid.LogSnr(Schedule, 1024, 1, 3);
        var path = new BrownianPath(fine);
        var means = Means();
        SampleRequest Request(int n) => new()
        {
            Field = NoiseField.From((x, t) => PlaneMixtureTests.Noise(x, Schedule.At(t), means)).With("means", means),
            Noise = CounterNoise.Normal(new(3), [128, 2], ScalarType.Float64),
            Grid = path.Coarse(n),
            Sampler = path,
            Key = new(4),
        };
        using var exact = Sampling.Differentiate(Request(1024), x => x.sub(Target).Squared().sum(), cancellationToken: Token);
        int[] steps = [16, 32, 64];
        var errors = steps.Select(n =>
        {
            using var result = Sampling.Differentiate(Request(n), x => x.sub(Target).Squared().sum(), GradientMethod.AdjointDeis(order), Token);
            return GradientCheck.Compare(result, exact)[0].RelativeError;
        }).ToArray();
        AssertOrder(1, steps, errors, "x_T");
    }

    [Theory]
    [InlineData("ddpm")]
    [InlineData("euler-maruyama")]
    [InlineData("sde-dpm++1")]
    [InlineData("sde-dpm++2m")]
    [InlineData("ddim(eta=0.5)")]
    public void Network_StochasticSamplers_ApproachTheDiscreteGradient(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var (coarse, fine) = (Agreement(20), Agreement(160));
        Assert.All(fine, a => Assert.InRange(a.Cosine, 0.99, 1));
        Assert.All(coarse.Zip(fine), a => Assert.InRange(a.Second.RelativeError, 0, a.First.RelativeError / 1.5));

        IReadOnlyList<GradientAgreement> Agreement(int steps)
            => GradientCheck.Run(net.Request(Named(sampler), "none", out _) with { Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps, 0.4, 1.2), Key = new(9) }, x => x.Squared().mean(), GradientMethod.AdjointDeis(), GradientMethod.Discrete, Token);
    }

    [Fact]
    public void Differentiate_CostsAndLabels_AreTheMethodsOwn()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Heun, "sequential", out _, steps: 7);
        using var result = Sampling.Differentiate(request, x => x.Squared().mean(), GradientMethod.AdjointDeis(2), Token);
        Assert.Equal((7, 14, 7, 7, 0), (result.Statistics.Steps, result.Statistics.ForwardNfe, result.Statistics.BackwardNfe, result.Statistics.Vjps, result.Statistics.Recomputed));
        Assert.Equal(("adjoint-deis-1", "adjoint-deis-2m"), (GradientMethod.AdjointDeis().Name, GradientMethod.AdjointDeis(2).Name));
        using var again = Sampling.Differentiate(request, x => x.Squared().mean(), GradientMethod.AdjointDeis(2), Token);
        Assert.Equal(result.Noise.data<double>().ToArray(), again.Noise.data<double>().ToArray());
    }

    [Fact]
    public void Differentiate_CoarseOrSteppedProblems_Warns()
    {
        using var scope = NewDisposeScope();
        var shifts = Enumerable.Range(0, 3).Select(_ => zeros(2, ScalarType.Float64)).ToArray();
        var stepped = new SampleRequest
        {
            Field = NoiseField.From((x, _, n) => x.add(shifts[n], TestScalars.One)).With("c", shifts),
            Noise = ones([1, 2], ScalarType.Float64),
            Grid = TimeGrid.LogSnr(Schedule, 3, 0.5, 2),
        };
        Assert.Contains("told its step", Assert.Single(Warnings(stepped, 2)), StringComparison.Ordinal);
        Assert.Empty(Warnings(stepped, 1));
        // A factor of 1.59 a step: too much where the drift counts twice.
        Assert.Contains("more than a factor of 1.5", Assert.Single(Warnings(stepped with { Sampler = Sampler.EulerMaruyama }, 1)), StringComparison.Ordinal);

        static IReadOnlyList<string> Warnings(SampleRequest request, int order)
        {
            using var result = Sampling.Differentiate(request, x => x.sum(), GradientMethod.AdjointDeis(order), Token);
            return result.Statistics.Warnings;
        }
    }

    [Fact]
    public void Differentiate_WhatItCannotServe_SaysWhatDoes()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Edm, "none", out _);
        Assert.Contains("'edm'", Refused(request, GradientMethod.AdjointDeis()), StringComparison.Ordinal);
        Assert.Contains("GradientMethod.AdjointDeis", Refused(request, GradientMethod.Continuous()), StringComparison.Ordinal);
        Assert.Contains("GradientMethod.AdjointDeis", Refused(request, GradientMethod.Continuous(new StepControl { Relative = 1e-3, Absolute = 1e-3 })), StringComparison.Ordinal);
        Assert.Contains("GradientMethod.Discrete", Refused(request with { Sampler = Sampler.Ddim, Controls = [request.Noise] }, GradientMethod.AdjointDeis()), StringComparison.Ordinal);
        var toZero = new TimeGrid(request.Grid.Schedule, [.. request.Grid.Points, new GridPoint(0, new(1, 0))]);
        Assert.Contains("rho = 0", Refused(request with { Sampler = Sampler.Ddim, Grid = toZero }, GradientMethod.AdjointDeis()), StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => GradientMethod.AdjointDeis(3));

        static string Refused(SampleRequest request, GradientMethod method)
            => Assert.Throws<NotSupportedException>(() => Sampling.Differentiate(request, x => x.sum(), method, Token)).Message;
    }

    private static Tensor Target => tensor(PlaneMixtureTests.Target, ScalarType.Float64);

    private static Tensor Means() => tensor(PlaneMixtureTests.Means, ScalarType.Float64).reshape(3, 2);

    private static Sampler Named(string sampler) => sampler == "ddim(eta=0.5)" ? Sampler.DdimWithNoise(0.5) : Sampler.Named(sampler);

    // Levels where the untrained network is smooth enough for errors to follow the steps.
    private static Func<Sampler, int, SampleRequest> Network(TinyDenoiser net) => (sampler, steps)
        => net.Request(sampler, "sequential", out _) with { Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps, rhoMin: 0.4, rhoMax: 1.2) };

    // The means are the weights, a shift of all of them the conditioning.
    private static Func<Sampler, int, SampleRequest> Mixture()
    {
        Tensor means = Means(), shift = zeros(2, ScalarType.Float64);
        return (sampler, steps) => new()
        {
            Field = NoiseField.From((x, t) => PlaneMixtureTests.Noise(x, Schedule.At(t), means.add(shift, TestScalars.One))).With("means", means).With("shift", shift),
            Noise = tensor(PlaneMixtureTests.Start, ScalarType.Float64).unsqueeze(0),
            Grid = TimeGrid.LogSnr(Schedule, steps, 0.2, 5),
            Sampler = sampler,
        };
    }

    // Slope of log error over log steps.
    private static void AssertOrder(double order, int[] steps, IReadOnlyList<double> errors, string name)
    {
        double[] x = [.. steps.Select(n => Math.Log2(n))], y = [.. errors.Select(Math.Log2)];
        double mx = x.Average(), my = y.Average(), slope = -x.Zip(y, (a, b) => (a - mx) * (b - my)).Sum() / x.Sum(a => (a - mx) * (a - mx));
        Assert.True(Math.Abs(slope - order) < 0.15, $"{name}: order {slope:f2}, errors {string.Join(", ", errors.Select(e => e.ToString("e2", System.Globalization.CultureInfo.InvariantCulture)))}");
    }
}
