using System.Collections.Immutable;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

public sealed class LowVarianceTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("ddim", "none", 0.04)]
    [InlineData("ddim", "sequential", 0)]
    [InlineData("dpm++2m", "none", 0)]
    [InlineData("heun", "none", 0.05)]
    public void Gradient_IsTheMeanOfTheLastStepAndItsNoisings_ByHand(string sampler, string guidance, double end)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), guidance, out var c, steps: 4) with { Key = new(9, 3) };
        request = request with { Grid = new TimeGrid(DiscreteVp.StableDiffusion, [4, 2, 1, 0.4, end]) };
        const int Noisings = 3;
        using var actual = Sampling.Differentiate(request, Loss, GradientMethod.LowVariance(Noisings), Cancel);
        using var own = Sampling.Differentiate(request, Loss, GradientMethod.Truncated(1), Cancel);
        Assert.True(own.Sample.Equals(actual.Sample));
        Assert.Equal(own.Loss, actual.Loss);

        var expected = request.Field.Inputs.ToDictionary(input => input.Name, input => own.Inputs[input.Name].clone());
        for (var i = 0; i < Noisings; i++)
        {
            foreach (var (name, gradient) in ByHand(request, own.Sample, (ushort)(ushort.MaxValue - 1 - i)))
                expected[name].add_(gradient, TestScalars.One);
        }

        using var count = (1.0 + Noisings).ToScalar();
        foreach (var (name, gradient) in expected)
            Assert.InRange(TestScalars.RelativeError(actual.Inputs[name], gradient.div(count)), 0, 1e-12);
        Assert.Equal(0, actual.Noise.abs().sum().Number());
        var last = request.Sampler.Plan(request.Grid, 3).Evaluations.Length;
        Assert.Equal((own.Statistics.ForwardNfe, last + (2 * Noisings), last + Noisings), (actual.Statistics.ForwardNfe, actual.Statistics.BackwardNfe, actual.Statistics.Vjps));
    }

    /// <summary>Standard normal data, ε = σ x + θ, L = ½ x_0², one step from ρ = 3: ∂L/∂θ = −ρ x̂_0, of variance ρ² α² [1] or, averaged, that times ((1 + n α²) / (1 + n))² + n σ² / (1 + n)².</summary>
    [Fact]
    public void Variance_IsTheClosedForm()
    {
        using var scope = NewDisposeScope();
        const int N = 8, Seeds = 800;
        var grid = new TimeGrid(DiscreteVp.StableDiffusion, [3, 0]);
        var (alpha, sigma) = grid.Start.Level;
        var theta = zeros([1, 1], ScalarType.Float64);
        var field = NoiseField.From((x, _) => x.Times(sigma).add(theta, TestScalars.One)).With("theta", theta);
        double VarianceOf(GradientMethod method) => Enumerable.Range(0, Seeds).Average(seed =>
        {
            var key = new NoiseKey((ulong)seed);
            using var solved = Sampling.Differentiate(
                new SampleRequest { Field = field, Noise = CounterNoise.Normal(key, [1, 1], ScalarType.Float64), Grid = grid, Key = key }, x => x.mul(x).Times(0.5).sum(), method, Cancel);
            return Math.Pow(solved.Inputs["theta"].Number(), 2);
        });
        var own = 9 * alpha * alpha;
        Assert.InRange(VarianceOf(GradientMethod.Truncated(1)) / own, 0.8, 1.2);
        Assert.InRange(VarianceOf(GradientMethod.LowVariance(N)) / own / (Math.Pow((1 + (N * alpha * alpha)) / (1 + N), 2) + (N * sigma * sigma / ((1 + N) * (1 + N)))), 0.8, 1.2);
    }

    [Fact]
    public void Runs_AreReplayable_AndNotAPartOfBatching()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _, steps: 3);
        using var once = Sampling.Differentiate(request, Loss, GradientMethod.LowVariance(), Cancel);
        using var again = Sampling.Differentiate(request, Loss, GradientMethod.LowVariance(), Cancel);
        using var other = Sampling.Differentiate(request with { Key = new(1) }, Loss, GradientMethod.LowVariance(), Cancel);
        Assert.True(once.Inputs["net.first"].Equals(again.Inputs["net.first"]));
        Assert.False(once.Inputs["net.first"].Equals(other.Inputs["net.first"]));
        Assert.False(GradientMethod.LowVariance().IsExact);
        Assert.Equal("low-variance(2)", GradientMethod.LowVariance().Name);
    }

    [Fact]
    public void WhatItCannotServe_IsSaid()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _, steps: 3);
        Assert.Throws<ArgumentOutOfRangeException>(() => GradientMethod.LowVariance(0));
        var onStates = new Objective { OnSample = Loss, OnStates = new Dictionary<int, Func<Tensor, Tensor>> { [2] = Loss }.ToImmutableSortedDictionary() };
        Assert.Contains("Truncated(1)", Assert.Throws<NotSupportedException>(() => Sampling.Differentiate(request, onStates, GradientMethod.LowVariance(), Cancel)).Message, StringComparison.Ordinal);
        request.Noise.requires_grad = true;
        Assert.Throws<NotSupportedException>(() => DifferentiableSample.Draw(request, GradientMethod.LowVariance(), cancellationToken: Cancel));
    }

    private static Tensor Loss(Tensor x) => x.mul(x).mul(x).mean();

    // One noising by plain automatic differentiation.
    private static IEnumerable<(string Name, Tensor Gradient)> ByHand(SampleRequest request, Tensor sample, ushort draw)
    {
        var (from, to) = (request.Grid.Points[^2], request.Grid.Points[^1]);
        var noise = CounterNoise.Normal(request.Key with { Draw = draw }, sample.shape, sample.dtype);
        var variance = Math.Pow(from.Level.Sigma, 2) - Math.Pow(from.Level.Alpha / to.Level.Alpha * to.Level.Sigma, 2);
        var x = sample.Times(from.Level.Alpha / to.Level.Alpha).add(noise.Times(Math.Sqrt(variance)), TestScalars.One);
        foreach (var (_, value) in request.Field.Inputs)
            value.requires_grad = true;
        // DDIM: the predicted sample and noise are held.
        var eps = request.Field.Evaluate(x, from);
        var clean = x.sub(eps.Times(from.Level.Sigma)).Times(1 / from.Level.Alpha);
        var loss = Loss(clean.Times(to.Level.Alpha).add(eps.Times(to.Level.Sigma), TestScalars.One));
        Vjp.Accumulate(loss, ones_like(loss), [.. request.Field.Inputs.Select(input => input.Value)]);
        foreach (var (name, value) in request.Field.Inputs)
        {
            yield return (name, value.grad!.clone());
            value.grad = null;
            value.requires_grad = false;
        }
    }
}
