using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>What gradients of samples are for, on problems whose answer is known: attack by noise in a box, noise on a sphere, conditioning from a sample.</summary>
public sealed class OptimisationTests
{
    private const int Samples = 100, Steps = 10;
    private static readonly LinearVp Schedule = new();

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    // The attack of the paper's security audit, on the plane mixture: noise moves by 0.01 along the normalised gradient of the cross-entropy, within a box about its start, until the sample belongs to another component.
    [Fact]
    public void Attack_NoiseInABox_SucceedsAtLeastAsOftenWithTheExactGradient()
    {
        using var scope = NewDisposeScope();
        var discrete = Successes(GradientMethod.Discrete);
        var continuous = Successes(GradientMethod.Continuous());
        TestContext.Current.TestOutputHelper?.WriteLine($"attacks that succeed, of {Samples}: discrete {discrete}, continuous {continuous}");
        // 23 and 21.
        Assert.True(discrete >= continuous && discrete > Samples / 5, $"discrete {discrete}, continuous {continuous}");
    }

    // For Gaussian data the sample is linear in the noise: the best noise of a given length is along the gradient, and none does better.
    [Fact]
    public void Sphere_BestNoiseOfALength_IsAlongTheGradient()
    {
        using var scope = NewDisposeScope();
        double[] deviations = [0.05, 0.4, 1.3];
        Tensor axes = linalg.qr(CounterNoise.Normal(new(31), [3, 3], ScalarType.Float64)).Q, mean = CounterNoise.Normal(new(32), [3], ScalarType.Float64), wanted = CounterNoise.Normal(new(33), [3], ScalarType.Float64);
        var request = new SampleRequest
        {
            Field = NoiseField.From((x, t) =>
            {
                var level = DiscreteVp.StableDiffusion.At(t);
                using var toZ = (1 / level.Alpha).ToScalar();
                return x.mul(toZ).sub(mean).matmul(axes).mul(tensor([.. deviations.Select(s => level.Rho / ((s * s) + (level.Rho * level.Rho)))])).matmul(axes.t());
            }),
            Noise = CounterNoise.Normal(new(34), [3], ScalarType.Float64),
            Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 15),
            Sampler = Sampler.Heun,
        };
        using var slope = Sampling.Differentiate(request, x => x.mul(wanted).sum(), cancellationToken: Token);
        Tensor best = OnSphere(slope.Noise.unsqueeze(0)), others = OnSphere(CounterNoise.Normal(new(51), [500, 3], ScalarType.Float64));
        using var sampled = Sampling.Sample(request with { Noise = cat([best, others], 0) }, Token);
        var reached = sampled.Sample.matmul(wanted).data<double>().ToArray();
        Assert.All(reached.Skip(1), r => Assert.True(r < reached[0]));
        using var there = Sampling.Differentiate(request with { Noise = best }, x => x.matmul(wanted).sum(), cancellationToken: Token);
        Assert.Equal(1, GradientCheck.Compare("x_T", there.Noise, best).Cosine, 1e-12);

        static Tensor OnSphere(Tensor y) => y.div(y.Squared().sum(-1, keepdim: true).sqrt());
    }

    // For Gaussian data the sample is linear in the mean: one Newton step finds the mean that a sample was made with.
    [Fact]
    public void Conditioning_FromASampleOfIt_IsFoundInOneStep()
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 12);
        using var target = Sampling.Sample(ClosedFormTests.GaussianRequest(grid, Sampler.DpmSolver2M, 0.4, tensor(0.9, ScalarType.Float64)), Token);
        var start = ClosedFormTests.GaussianRequest(grid, Sampler.DpmSolver2M, 0.4, tensor(-0.3, ScalarType.Float64));
        using var slope = Sampling.Differentiate(start, x => x.sum(), cancellationToken: Token);
        var missing = target.Sample.Number() - slope.Sample.Number();
        Assert.Equal(0.9, -0.3 + (missing / slope.Inputs["mean"].Number()), 1e-12);
    }

    // The same through a network: the sample's conditioning is recovered from the sample alone.
    [Fact]
    public void Conditioning_OfANetwork_IsRecoveredFromTheSample()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Ddim, "none", out var c, steps: 4);
        var answer = c.clone();
        using var target = Sampling.Sample(request, Token);
        c.zero_();
        double before = c.sub(answer).norm().Number(), damping = 1e-3;
        using var solver = no_grad();
        // Gauss and Newton: the residual's Jacobian by one adjoint for each of as many directions as there are unknowns of a sample.
        for (var n = 0; n < 8; n++)
        {
            using var step = NewDisposeScope();
            var directions = Enumerable.Range(0, 8).Select(i => CounterNoise.Normal(new(41, Draw: (ushort)i), TinyDenoiser.Shape, ScalarType.Float64)).ToArray();
            var rows = directions.Select(d =>
            {
                using var result = Sampling.Differentiate(request, x => x.sub(target.Sample).mul(d).sum([1, 2, 3]).sum(), cancellationToken: Token);
                return (Slope: result.Inputs["conditioning"].clone(), Residual: result.Sample.sub(target.Sample).mul(d).sum([1, 2, 3]));
            }).ToArray();
            for (var b = 0; b < 2; b++)
            {
                Tensor j = stack(rows.Select(r => r.Slope[b])), residual = stack(rows.Select(r => r.Residual[b]));
                using var keep = damping.ToScalar();
                c[b].sub_(linalg.solve(j.t().matmul(j).add(eye(3, dtype: ScalarType.Float64), keep), j.t().matmul(residual).unsqueeze(-1)).squeeze(-1));
            }

            damping /= 10;
        }

        Assert.InRange(c.sub(answer).norm().Number() / before, 0, 1e-8);
    }

    private static int Successes(GradientMethod method)
    {
        using var scope = NewDisposeScope();
        using Scalar step = 0.01.ToScalar(), box = 0.3.ToScalar(), otherSide = (-0.3).ToScalar();
        var start = CounterNoise.Normal(new(3), [Samples, 2], ScalarType.Float64);
        using var before = Sampling.Sample(Mixture(start), Token);
        var truth = LogPosterior(before.Sample).argmax(1);
        var x = start;
        for (var n = 0; n < 30; n++)
        {
            using var result = Sampling.Differentiate(Mixture(x), s => LogPosterior(s).gather(1, truth.unsqueeze(1)).sum().neg(), method, Token);
            var g = result.Noise;
            var length = g.Squared().sum(1, keepdim: true).sqrt();
            x = start.add(x.add(g.div(length), step).sub(start).clamp(otherSide, box), TestScalars.One);
        }

        using var after = Sampling.Sample(Mixture(x), Token);
        return (int)LogPosterior(after.Sample).argmax(1).ne(truth).sum().ToInt64();
    }

    private static SampleRequest Mixture(Tensor noise)
    {
        var means = tensor(PlaneMixtureTests.Means, ScalarType.Float64).reshape(3, 2);
        return new() { Field = NoiseField.From((x, t) => PlaneMixtureTests.Noise(x, Schedule.At(t), means)), Noise = noise, Grid = TimeGrid.LogSnr(Schedule, Steps) };
    }

    // log p(component | x) of clean samples, [B, 3].
    private static Tensor LogPosterior(Tensor x)
    {
        double[] weights = [0.5, 0.3, 0.2], variances = [0.1, 0.2, 0.05];
        var means = tensor(PlaneMixtureTests.Means, ScalarType.Float64).reshape(3, 2);
        var scores = x.unsqueeze(1).sub(means).Squared().sum(-1).mul(tensor([.. variances.Select(v => -0.5 / v)]));
        return scores.add(tensor([.. weights.Zip(variances, (w, v) => Math.Log(w / v))]), TestScalars.One).log_softmax(1);
    }
}
