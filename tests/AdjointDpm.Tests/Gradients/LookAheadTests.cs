using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Guidance by looking ahead, on data whose noise prediction is known.</summary>
public sealed class LookAheadTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Fact]
    public void OneStep_IsThePublishedUpdate_ByHand()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "sequential", out _, steps: 3);
        var guidance = new LookAheadGuidance { Loss = x => x.mul(x).mul(x).mean(), Ahead = 1, Strength = 0.3, From = 1, Until = 2 };
        using var guided = Sampling.Sample(request, guidance, Cancel);

        // Steps 0 to 1; the gradient at x_1 of the loss on the guess x̂_0 of one DDIM step to the end; step 1 to 2 moved against it; step 2 to 3.
        var points = request.Grid.Points;
        var x1 = Step(request, request.Noise, 0, 1);
        var leaf = x1.detach().requires_grad_();
        var ahead = guidance.Loss(Step(request, leaf, 1, 3));
        Vjp.Accumulate(ahead, ones_like(ahead), leaf);
        var x2 = Step(request, x1, 1, 2);
        var (before, after) = (points[1].Level, points[2].Level);
        var taken = Math.Sqrt(Math.Pow(before.Sigma, 2) - Math.Pow(before.Alpha * after.Sigma / after.Alpha, 2));
        var moved = x2.sub(leaf.grad!.div(leaf.grad!.mul(leaf.grad!).mean([1, 2, 3], keepdim: true).sqrt()).Times(0.3 * taken));
        Assert.InRange(TestScalars.RelativeError(guided.Sample, Step(request, moved, 2, 3)), 0, 1e-12);
        Assert.Equal((4, 1, 1), (guided.Statistics.ForwardNfe, guided.Statistics.BackwardNfe, guided.Statistics.Vjps));
    }

    [Theory]
    [InlineData("ddim")]
    [InlineData("dpm++2m")]
    [InlineData("heun")]
    [InlineData("sde-dpm++2m")]
    public void NoStrength_IsTheSamplerItself(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), "none", out _, steps: 5);
        using var plain = Sampling.Sample(request, Cancel);
        using var guided = Sampling.Sample(request, new LookAheadGuidance { Loss = x => x.sum(), Strength = 0, Ahead = 2 }, Cancel);
        Assert.InRange(TestScalars.RelativeError(guided.Sample, plain.Sample), 0, 1e-13);
    }

    /// <summary>Two far-apart Gaussians: guided by the log probability of one of them, samples must come out there.</summary>
    [Fact]
    public void Mixture_IsSteeredIntoOneOfItsParts()
    {
        using var scope = NewDisposeScope();
        const int Samples = 200;
        var request = Mixture(Samples, Sampler.Ddim, 20);
        double Reached(Tensor x) => x.gt(Zero).to(ScalarType.Float64).mean().Number();
        using var plain = Sampling.Sample(request, Cancel);
        Assert.InRange(Reached(plain.Sample), 0.4, 0.6);
        foreach (var (repeats, sampler) in new[] { (0, Sampler.Ddim), (1, Sampler.Ddim), (0, Sampler.DpmSolver2M) })
        {
            using var guided = Guided(sampler, ahead: 4, strength: 0.3, repeats);
            Assert.InRange(Reached(guided.Sample), 0.98, 1);
            // And on the data: about as far from the mean as its samples are, 0.8.
            Assert.InRange(guided.Sample.sub(Mean).abs().mean().Number(), 0.6, 1);
        }

        // Little strength goes further with a better guess.
        using Tensor near = Guided(Sampler.Ddim, 1, 0.1, 0).Sample, far = Guided(Sampler.Ddim, 4, 0.1, 0).Sample;
        Assert.True(Reached(far) > Reached(near) + 0.05, $"{Reached(far)} against {Reached(near)}");

        SampleResult Guided(Sampler sampler, int ahead, double strength, int repeats) => Sampling.Sample(
            request with { Sampler = sampler }, new LookAheadGuidance { Loss = x => TowardsRight(x).sum(), Ahead = ahead, Strength = strength, Normalise = false, Repeats = repeats }, Cancel);
    }

    [Fact]
    public void MoreStepsAhead_GuessTheSampleBetter()
    {
        using var scope = NewDisposeScope();
        var request = Mixture(50, Sampler.Ddim, 32);
        var errors = new List<double>();
        using var exact = Sampling.Sample(request with { Sampler = Sampler.Rk4 }, Cancel);
        foreach (var ahead in new[] { 1, 4, 16 })
        {
            Tensor? guess = null;
            Sampling.Sample(request, new LookAheadGuidance { Loss = x => (guess = x.detach().DetachFromDisposeScope()).mul(Zero).sum().add(x.mul(Zero).sum(), TestScalars.One), Ahead = ahead, Strength = 0, Until = 1 }, Cancel).Dispose();
            errors.Add(guess!.sub(exact.Sample).norm().Number());
        }

        Assert.True(errors[1] < 0.7 * errors[0] && errors[2] < 0.7 * errors[1], string.Join(", ", errors));
    }

    [Fact]
    public void SamplesOfABatch_DoNotInfluenceEachOther_AndRunsRepeat()
    {
        using var scope = NewDisposeScope();
        var guidance = new LookAheadGuidance { Loss = x => TowardsRight(x).sum(), Repeats = 1 };
        var request = Mixture(6, Sampler.Ddpm, 8);
        using var all = Sampling.Sample(request, guidance, Cancel);
        using var part = Sampling.Sample(request with { Noise = request.Noise.narrow(0, 4, 2), FirstSample = 4 }, guidance, Cancel);
        using var again = Sampling.Sample(request, guidance, Cancel);
        Assert.True(all.Sample.Equals(again.Sample));
        Assert.InRange(TestScalars.RelativeError(part.Sample, all.Sample.narrow(0, 4, 2)), 0, 1e-12);
    }

    [Fact]
    public void GradientMethods_Agree_AndCostsAreCounted()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.DpmSolver2M, "none", out _, steps: 6);
        var guidance = new LookAheadGuidance { Loss = x => x.mul(x).mean(), Ahead = 3, From = 2, Until = 5, Repeats = 1 };
        using var discrete = Sampling.Sample(request, guidance, Cancel);
        using var unrolled = Sampling.Sample(request, guidance with { Gradient = GradientMethod.StoreAll }, Cancel);
        Assert.InRange(TestScalars.RelativeError(discrete.Sample, unrolled.Sample), 0, 1e-12);
        // 6 steps, 3 taken twice; before each a look of 3 steps, or of the 2 that remain from step 4.
        Assert.Equal((6 + 3 + (2 * (3 + 3 + 2)), 2 * (3 + 3 + 2)), (discrete.Statistics.ForwardNfe, discrete.Statistics.Vjps));
        Assert.All(net.parameters(), p => Assert.Null(p.grad));
    }

    [Fact]
    public void WhatItCannotServe_IsSaid()
    {
        using var scope = NewDisposeScope();
        var request = Mixture(2, Sampler.Ddim, 4);
        var guidance = new LookAheadGuidance { Loss = x => x.sum() };
        Assert.Throws<NotSupportedException>(() => Sampling.Sample(request with { Sampler = new ReversibleSampler(ButcherTableau.Midpoint) }, guidance, Cancel));
        Assert.Throws<NotSupportedException>(() => Sampling.Sample(request with { Field = NoiseField.From((x, _, n) => x) }, guidance, Cancel));
        Assert.Contains("does not lie within the grid's 4 steps", Assert.Throws<ArgumentException>(() => Sampling.Sample(request, guidance with { From = 3, Until = 5 }, Cancel)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => Sampling.Sample(request, guidance with { Strength = double.NaN }, Cancel));
        Assert.Throws<ArgumentException>(() => Sampling.Sample(request, guidance with { Ahead = 0 }, Cancel));
        Assert.Throws<NonFiniteException>(() => Sampling.Sample(request, guidance with { Loss = x => x.sub(x).log().sum() }, Cancel));
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        Assert.Throws<OperationCanceledException>(() => Sampling.Sample(request, guidance, cancelled.Token));
    }

    private static readonly Scalar Zero = 0.0.ToScalar(), Mean = 3.0.ToScalar();

    // −log of the probability that a sample belongs to the right one of ±3, both of unit variance: log(1 + exp(−6x)).
    private static Tensor TowardsRight(Tensor x)
    {
        using var slope = (-6.0).ToScalar();
        return nn.functional.softplus(x.mul(slope));
    }

    // Half N(−3, 1), half N(3, 1), exactly: ε = (x − α m tanh(α m x / (α² + σ²))) σ / (α² + σ²).
    private static SampleRequest Mixture(int samples, Sampler sampler, int steps)
    {
        var schedule = new LinearVp();
        return new()
        {
            Field = NoiseField.From((x, time) =>
            {
                var (alpha, sigma) = schedule.At(time);
                var variance = (alpha * alpha) + (sigma * sigma);
                return x.sub(x.Times(3 * alpha / variance).tanh().Times(3 * alpha)).Times(sigma / variance);
            }),
            Noise = CounterNoise.Normal(new(31), [samples, 1], ScalarType.Float64),
            Grid = TimeGrid.LogSnr(schedule, steps),
            Sampler = sampler,
            Key = new(32),
        };
    }

    // One step of DDIM between two points of the request's grid.
    private static Tensor Step(SampleRequest request, Tensor x, int n, int m)
    {
        var (from, to) = (request.Grid.Points[n], request.Grid.Points[m]);
        var eps = request.Field.Evaluate(x, from);
        return x.Times(1 / from.Level.Alpha).add(eps.Times(to.Rho - from.Rho), TestScalars.One).Times(to.Level.Alpha);
    }
}
