using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>The theorem of adjoint matching where everything is known: Gaussian data, a model that is linear at each step, and rewards whose tilted distribution is Gaussian again. Moments of the finetuned chain are computed, not sampled.</summary>
public sealed class TiltedDistributionTests
{
    private const double Mean = 0.7, Deviation = 0.5;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    // With a linear reward the lean adjoint is the same on all paths and constant controls are optimal: one step of Newton's method ends at the tilted chain, N(mean + g variance, variance), however few the steps.
    [Theory]
    [InlineData("ddpm", "vp", 5)]
    [InlineData("sde-dpm++1", "vp", 12)]
    [InlineData("euler-maruyama", "vp", 60)]
    [InlineData("ddpm", "flow", 6)]
    public void LinearReward_OneNewtonStep_IsTheTiltedChain(string sampler, string schedule, int steps)
    {
        using var scope = NewDisposeScope();
        const double slope = 1.7;
        var model = new LinearModel(Grid(schedule, steps), Sampler.Named(sampler), slopes: false);
        using var scale = slope.ToScalar();
        model.Learn(x => x.squeeze(1).mul(scale), samples: 3, iterations: 1, rate: 1);
        var (before, after) = (model.Moments(finetuned: false), model.Moments(finetuned: true));
        // The share of the variance that comes from x_T, which is not controlled: 1e-5 of it, and none for flows.
        var controlled = before.Variance * (1 - (before.Correlation * before.Correlation));
        Assert.Equal(before.Mean + (slope * controlled), after.Mean, 1e-12);
        Assert.Equal(before.Variance, after.Variance, 1e-12);
        using var matched = model.Match(x => x.squeeze(1).mul(scale), samples: 3, seed: 9);
        Assert.InRange(matched.Loss, 0, 1e-20);
        // What it cost to leave the base model: KL of N(mu + g V, V) from N(mu, V), all of it in the last marginal.
        Assert.Equal(slope * slope * controlled / 2, matched.Divergence, 1e-12);
    }

    // r = -q/2 (x - t)² tilts N(mu, V) to precision 1/V + q. Stochastic gradient descent with 512 samples; the mean of its last 20 iterates is off by sampling and by the chain's forty steps, together below three per cent of the tilted deviation.
    [Theory]
    [InlineData("vp")]
    [InlineData("flow")]
    public void QuadraticReward_StochasticDescent_ConvergesToTheTiltedDistribution(string schedule)
    {
        using var scope = NewDisposeScope();
        const double curvature = 4, target = 1.5;
        var model = new LinearModel(Grid(schedule, 40), Sampler.Ddpm);
        using Scalar at = target.ToScalar(), half = (-curvature / 2).ToScalar();
        Tensor Reward(Tensor x)
        {
            var d = x.squeeze(1).sub(at);
            return d.mul(d).mul(half);
        }

        model.Learn(Reward, samples: 512, iterations: 40, rate: 0.5, average: 20);
        var (before, after) = (model.Moments(finetuned: false), model.Moments(finetuned: true));
        var precision = (1 / before.Variance) + curvature;
        var (mean, deviation) = (((before.Mean / before.Variance) + (curvature * target)) / precision, Math.Sqrt(1 / precision));
        Assert.Equal(mean, after.Mean, 0.03 * deviation);
        Assert.Equal(deviation, Math.Sqrt(after.Variance), 0.03 * deviation);
        // Not the base model, nor the reward's maximum.
        Assert.True(Math.Abs(before.Mean - mean) > 0.5 * deviation && Math.Abs(target - mean) > 0.5 * deviation);
    }

    // x_0 says nothing about x_T: correlation of the two under the memoryless sampler, and of the flow, whose x_0 is a function of x_T.
    [Theory]
    [InlineData("ddpm", "vp", 0)]
    [InlineData("euler-maruyama", "vp", 0)]
    [InlineData("ddpm", "flow", 0)]
    [InlineData("ddim", "vp", 1)]
    [InlineData("ddim", "flow", 1)]
    public void Correlation_NoiseAndSample_IsNoneWithNoise(string sampler, string schedule, double expected)
        => Assert.Equal(expected, new LinearModel(Grid(schedule, 60), Sampler.Named(sampler)).Moments(finetuned: false).Correlation, 5e-3);

    private static TimeGrid Grid(string schedule, int steps)
    {
        if (schedule == "vp")
            return TimeGrid.LogSnr(new LinearVp(), steps, 0.05);
        var flow = new FlowMatching();
        return new(flow, [.. TimeGrid.UniformTime(flow, steps + 1).Points.SkipLast(1)]);
    }

    /// <summary>Gaussian data's exact prediction plus, at each step, slope and shift of the control v = w z + c, with z of unit variance under the base model.</summary>
    private sealed class LinearModel(TimeGrid grid, Sampler sampler, bool slopes = true)
    {
        private readonly ControlledStep[] _steps = [.. Enumerable.Range(0, grid.Steps).Select(n => sampler.Tau == 1 ? ControlledStep.Of(sampler.Plan(grid, n), sampler) : default)];
        private readonly Tensor[] _slopes = Zeros(grid.Steps), _shifts = Zeros(grid.Steps);

        public MatchingGradients Match(Func<Tensor, Tensor> reward, int samples, uint seed)
        {
            // The start of flows is pure noise; elsewhere the data still shows a little.
            var (a, s) = grid.Start.Level;
            using Scalar deviation = Math.Sqrt((a * a * Deviation * Deviation) + (s * s)).ToScalar(), mean = (a * Mean).ToScalar();
            var request = new SampleRequest
            {
                Field = (NoiseField.From(Finetuned) with { Prediction = Prediction.Sample }).With("c", _shifts).With("w", slopes ? _slopes : []),
                Noise = CounterNoise.Normal(new(1, seed), [samples, 1], ScalarType.Float64).mul(deviation).add(mean),
                Grid = grid,
                Sampler = sampler,
                Key = new(1, seed),
            };
            var matching = new AdjointMatching { BaseField = NoiseField.From((SteppedPredictor)OfBase) with { Prediction = Prediction.Sample } };
            return matching.Differentiate(request, reward, Token);
        }

        public void Learn(Func<Tensor, Tensor> reward, int samples, int iterations, double rate, int average = 1)
        {
            using var grad = no_grad();
            using Scalar step = (-rate).ToScalar(), share = (1.0 / average).ToScalar();
            Tensor[] inputs = [.. _shifts, .. slopes ? _slopes : []], means = Zeros(inputs.Length);
            for (var i = 0; i < iterations; i++)
            {
                using var scope = NewDisposeScope();
                using var matched = Match(reward, samples, (uint)i);
                foreach (var (input, gradient) in inputs.Zip(matched.Inputs.Values))
                    input.add_(gradient, step);
                if (i < iterations - average)
                    continue;
                foreach (var (mean, input) in means.Zip(inputs))
                    mean.add_(input, share);
            }

            foreach (var (input, mean) in inputs.Zip(means))
                input.copy_(mean);
        }

        /// <summary>Moments of x_0, and its correlation with x_T, by walking the chain once for each source of noise.</summary>
        public (double Mean, double Variance, double Correlation) Moments(bool finetuned)
        {
            var (a, s) = grid.Start.Level;
            var deviation = Math.Sqrt((a * a * Deviation * Deviation) + (s * s));
            var mean = Run(a * Mean, -1);
            var ofStart = Run((a * Mean) + deviation, -1) - mean;
            var variance = (ofStart * ofStart) + Enumerable.Range(0, grid.Steps).Sum(n => Math.Pow(Run(a * Mean, n) - mean, 2));
            return (mean, variance, ofStart / Math.Sqrt(variance));

            double Run(double x, int drawn) => ScalarWalk.Run(
                sampler,
                grid,
                x,
                (y, at, wanted) =>
                {
                    var n = Enumerable.Range(0, grid.Steps).First(k => grid.Points[k] == at);
                    var (p, ofX) = Affine(n);
                    var sample = p + (ofX * y);
                    if (finetuned)
                        sample += Gain(n) * (_shifts[n].Number() + (_slopes[n].Number() * Standard(n, y)));
                    var (keep, of) = Prediction.Sample.To(wanted, at.Level);
                    return (keep * y) + (of * sample);
                },
                (n, _) => n == drawn ? 1 : 0);
        }

        private Tensor OfBase(Tensor x, double time, int n)
        {
            var (p, ofX) = Affine(n);
            using Scalar constant = p.ToScalar(), slope = ofX.ToScalar();
            return x.mul(slope).add(constant, TestScalars.One);
        }

        private Tensor Finetuned(Tensor x, double time, int n)
        {
            double zero = Standard(n, 0), one = Standard(n, 1) - zero;
            using Scalar constant = zero.ToScalar(), slope = one.ToScalar(), gain = Gain(n).ToScalar();
            return OfBase(x, time, n).add(x.mul(slope).add(constant, TestScalars.One).mul(_slopes[n]).add(_shifts[n], TestScalars.One), gain);
        }

        // E[x0 | x] of N(Mean, Deviation²).
        private (double Constant, double OfX) Affine(int n)
        {
            var (a, s) = grid.Points[n].Level;
            var variance = (a * a * Deviation * Deviation) + (s * s);
            return (Mean * s * s / variance, a * Deviation * Deviation / variance);
        }

        private double Standard(int n, double x)
        {
            var (a, s) = grid.Points[n].Level;
            return (x - (a * Mean)) / Math.Sqrt((a * a * Deviation * Deviation) + (s * s));
        }

        // What a control of one is in predictions of x0.
        private double Gain(int n)
        {
            var step = _steps[n];
            return step.OfDraw / step.OfPrediction / Prediction.Sample.To(step.As, step.At.Level).OfGiven;
        }

        private static Tensor[] Zeros(int count) => [.. Enumerable.Range(0, count).Select(_ => zeros([], ScalarType.Float64))];
    }
}
