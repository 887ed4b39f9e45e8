using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Adjoint matching's loss and gradient against other ways to compute them, its options, costs and limits.</summary>
public sealed class AdjointMatchingTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    // Where the finetuned model is the base model the control is zero, and the lean adjoint the adjoint: weights and conditioning, path by path.
    [Theory]
    [InlineData("ddpm", "vp")]
    [InlineData("sde-dpm++1", "vp")]
    [InlineData("euler-maruyama", "vp")]
    [InlineData("ddpm", "flow")]
    [InlineData("euler-maruyama", "flow")]
    public void Differentiate_AtTheBaseModel_IsThePathwiseGradientOfTheReward(string sampler, string schedule)
    {
        using var scope = NewDisposeScope();
        using TinyDenoiser net = new(), frozen = new();
        var (request, matching) = Problem(net, frozen, Sampler.Named(sampler), schedule);
        matching = matching with { RewardScale = 3 };
        using var matched = matching.Differentiate(request, Reward, Token);
        using var scale = (-3.0).ToScalar();
        using var expected = Sampling.Differentiate(request, x => Reward(x).mean().mul(scale), cancellationToken: Token);
        Assert.Equal(0, matched.Divergence);
        Assert.InRange(TestScalars.RelativeError(matched.Sample, expected.Sample), 0, 1e-14);
        Assert.Equal(expected.Inputs.Keys, matched.Inputs.Keys);
        Assert.All(expected.Inputs, i => Assert.InRange(TestScalars.RelativeError(matched.Inputs[i.Key], i.Value), 0, 1e-12));
        Assert.InRange(Math.Abs((-3 * matched.Rewards.mean().Number() / expected.Loss) - 1), 0, 1e-13);
    }

    // The released code's formulas: DDIM with eta = 1 in x, sqrt(h) u as the difference of means over the deviation, adjoint of the base model's mean.
    [Fact]
    public void Differentiate_FinetunedModel_EqualsAutomaticDifferentiationOfTheReleasedFormulas()
    {
        using var scope = NewDisposeScope();
        using TinyDenoiser net = new(), frozen = new();
        var (request, matching) = Problem(net, frozen, Sampler.Ddpm, "vp");
        Move(net);
        matching = matching with { RewardScale = 2, KeepTrajectory = true };
        using var matched = matching.Differentiate(request, Reward, Token);
        using var sample = Sampling.Sample(request, Token);
        Assert.Equal(sample.Sample.data<double>().ToArray(), matched.Sample.data<double>().ToArray());
        Assert.Equal(matched.Sample.data<double>().ToArray(), matched.States[^1].data<double>().ToArray());

        var c = request.Field.Inputs.Single(i => i.Name == "conditioning").Value;
        var (points, samples) = (request.Grid.Points, request.Noise.shape[0]);
        using var minusTwo = (-2.0).ToScalar();
        using var share = (0.5 / samples).ToScalar();
        var a = Vjp.Of(Reward, matched.States[^1], null).Gradient.mul(minusTwo);
        Tensor? loss = null;
        c.requires_grad = true;
        for (var k = request.Grid.Steps - 1; k >= 0; k--)
        {
            double before = Math.Pow(points[k].Level.Alpha, 2), after = Math.Pow(points[k + 1].Level.Alpha, 2);
            var deviation = Math.Sqrt((1 - after) / (1 - before) * (1 - (before / after)));
            Tensor Mean(TinyDenoiser of, Tensor x)
            {
                using Scalar noise = Math.Sqrt(1 - before).ToScalar(), toSample = Math.Sqrt(after / before).ToScalar(), direction = Math.Sqrt(1 - after - (deviation * deviation)).ToScalar();
                var eps = of.Predict(x, points[k].Time, ReferenceEquals(of, net) ? c : c.detach());
                return x.sub(eps.mul(noise)).mul(toSample).add(eps, direction);
            }

            using Scalar over = (1 / deviation).ToScalar(), by = deviation.ToScalar();
            var x = matched.States[k];
            var residual = Mean(net, x).sub(Mean(frozen, x).detach()).mul(over).add(a, by);
            var part = residual.mul(residual).sum().mul(share);
            loss = loss is null ? part : loss.add(part, TestScalars.One);
            a = Vjp.Of(y => Mean(frozen, y), x, a).Gradient;
            Assert.InRange(TestScalars.RelativeError(matched.Adjoints[k], a), 0, 1e-12);
        }

        Tensor[] leaves = [c, .. net.parameters()];
        Vjp.Accumulate(loss!, ones_like(loss!), leaves);
        Assert.Equal(1, matched.Loss / loss!.Number(), 1e-12);
        Assert.InRange(TestScalars.RelativeError(matched.Inputs["conditioning"], c.grad!), 0, 1e-12);
        foreach (var (name, parameter) in net.named_parameters())
        {
            Assert.InRange(TestScalars.RelativeError(matched.Inputs[$"net.{name}"], parameter.grad!), 0, 1e-12);
            parameter.grad = null;
        }

        c.requires_grad = false;
    }

    // Equation 27 and the loss of algorithm 1: u = (2 / sigma(t)) (v - v_base), sigma(t)² = 2 (1 - t) / t, t from noise to sample.
    [Fact]
    public void Steps_FlowMatching_AreThePapersAsTheyShrink()
    {
        const double h = 1e-4;
        foreach (var t in new[] { 0.2, 0.5, 0.8 })
        {
            var grid = new TimeGrid(new FlowMatching(), new GridPoint(1 - t, new(t, 1 - t)), new GridPoint(1 - t - h, new(t + h, 1 - t - h)));
            var step = ControlledStep.Of(Sampler.Ddpm.Plan(grid, 0), Sampler.Ddpm);
            var sigma = Math.Sqrt(2 * (1 - t) / t);
            // eps = x + alpha (eps - x0), and the paper's velocity is x0 - eps.
            Assert.Equal(Math.Sqrt(h) * 2 / sigma, -step.OfPrediction * t / step.OfDraw, 2e-3 * Math.Sqrt(h) * 2 / sigma);
            Assert.Equal(Math.Sqrt(h) * sigma, step.OfDraw * (t + h), 2e-3 * Math.Sqrt(h) * sigma);
        }
    }

    [Fact]
    public void Differentiate_SomeSteps_CostsAndWeighsThem()
    {
        using var scope = NewDisposeScope();
        using TinyDenoiser net = new(), frozen = new();
        var (request, all) = Problem(net, frozen, Sampler.Ddpm, "vp");
        Move(net);
        using var whole = all.Differentiate(request, Reward, Token);
        var cost = whole.Statistics;
        Assert.Equal((8, 8, 17, 16, 1), (cost.Steps, cost.ForwardNfe, cost.BackwardNfe + cost.Recomputed, cost.Vjps, cost.Recomputed));
        Assert.Equal([0, 1, 2, 3, 4, 5, 6, 7], whole.Matched);

        var some = all with { Last = 2, Drawn = 3 };
        using var part = some.Differentiate(request, Reward, Token);
        Assert.Equal(5, part.Matched.Count);
        Assert.Equal([6, 7], part.Matched.TakeLast(2));
        Assert.Equal((8, 13, 13), (part.Statistics.ForwardNfe, part.Statistics.BackwardNfe, part.Statistics.Vjps));
        Assert.Equal(whole.Sample.data<double>().ToArray(), part.Sample.data<double>().ToArray());
        // Over all draws every step weighs one.
        int[] controlled = [.. Enumerable.Range(0, 8)];
        var mean = new double[8];
        for (ushort seed = 0; seed < 2000; seed++)
        {
            foreach (var (step, weight) in some.Choose(controlled, new(seed)))
                mean[step] += weight / 2000;
        }

        // Two deviations of a mean of 2000 draws of 2 or 0 are 0.05.
        Assert.All(mean, m => Assert.Equal(1, m, 0.08));
        Assert.Equal(some.Choose(controlled, new(5)), some.Choose(controlled, new(5)));
        // More than there are is all.
        Assert.Equal(all.Choose(controlled, new(5)), (all with { Drawn = 20 }).Choose(controlled, new(5)));
    }

    [Fact]
    public void Differentiate_Clipped_LeavesOutTheLargest()
    {
        using var scope = NewDisposeScope();
        using TinyDenoiser net = new(), frozen = new();
        var (request, all) = Problem(net, frozen, Sampler.Ddpm, "vp");
        Move(net);
        using var whole = all.Differentiate(request, Reward, Token);
        using var half = (all with { ClipQuantile = 0.5 }).Differentiate(request, Reward, Token);
        Assert.Equal((0, 8), (whole.Clipped, half.Clipped));
        Assert.Null(whole.Threshold);
        Assert.InRange(half.Loss, 0, whole.Loss / 2);
        using var same = (all with { ClipAbove = half.Threshold }).Differentiate(request, Reward, Token);
        Assert.Equal(half.Loss, same.Loss);
        Assert.All(half.Inputs, i => Assert.Equal(i.Value.data<double>().ToArray(), same.Inputs[i.Key].data<double>().ToArray()));
        using var none = (all with { ClipAbove = 0 }).Differentiate(request, Reward, Token);
        Assert.Equal((0, 16), (none.Loss, none.Clipped));
        Assert.All(none.Inputs.Values, g => Assert.Equal(0, g.abs().max().Number()));
    }

    [Fact]
    public void Differentiate_TrajectoriesOfAnotherField_MatchesOnThem()
    {
        using var scope = NewDisposeScope();
        using TinyDenoiser net = new(), frozen = new();
        var (request, own) = Problem(net, frozen, Sampler.Ddpm, "vp");
        Move(net);
        using var expected = own.Differentiate(request, Reward, Token);
        using var same = (own with { SampledField = request.Field }).Differentiate(request, Reward, Token);
        Assert.Equal(expected.Loss, same.Loss);
        Assert.All(expected.Inputs, i => Assert.Equal(i.Value.data<double>().ToArray(), same.Inputs[i.Key].data<double>().ToArray()));
        using var other = (own with { SampledField = own.BaseField }).Differentiate(request, Reward, Token);
        using var sample = Sampling.Sample(request with { Field = own.BaseField }, Token);
        Assert.Equal(sample.Sample.data<double>().ToArray(), other.Sample.data<double>().ToArray());
        Assert.NotEqual(expected.Loss, other.Loss);
        var undeclared = NoiseField.From((x, t) => net.Predict(x, t, zeros([2, 3], ScalarType.Float64)));
        Assert.Throws<UndeclaredInputException>(() => (own with { SampledField = own.BaseField }).Differentiate(request with { Field = undeclared }, Reward, Token));
    }

    // A step to no noise has no control; the others are matched.
    [Fact]
    public void Differentiate_GridToNoNoise_MatchesTheStepsWithNoise()
    {
        using var scope = NewDisposeScope();
        using TinyDenoiser net = new(), frozen = new();
        var (request, matching) = Problem(net, frozen, Sampler.Ddpm, "vp");
        var grid = new TimeGrid(request.Grid.Schedule, [.. request.Grid.Points, new GridPoint(0, new(1, 0))]);
        using var matched = matching.Differentiate(request with { Grid = grid }, Reward, Token);
        Assert.Equal([0, 1, 2, 3, 4, 5, 6, 7], matched.Matched);
        var single = new TimeGrid(request.Grid.Schedule, request.Grid.Start, new GridPoint(0, new(1, 0)));
        Assert.Contains("draws noise", Assert.Throws<NotSupportedException>(() => matching.Differentiate(request with { Grid = single }, Reward, Token)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Differentiate_LeavesInputsAsTheyWere()
    {
        using var scope = NewDisposeScope();
        using TinyDenoiser net = new(), frozen = new();
        var (request, matching) = Problem(net, frozen, Sampler.Ddpm, "vp");
        var parameter = net.parameters().First();
        parameter.grad = ones_like(parameter);
        using var matched = matching.Differentiate(request, Reward, Token);
        Assert.True(parameter.requires_grad);
        Assert.Equal(parameter.numel(), parameter.grad!.sum().Number());
        Assert.Empty(matched.Unreached);
    }

    [Fact]
    public void Differentiate_WhatItCannotServe_SaysWhy()
    {
        using var scope = NewDisposeScope();
        using TinyDenoiser net = new(), frozen = new();
        var (request, matching) = Problem(net, frozen, Sampler.Ddpm, "vp");
        Refused<NotSupportedException>("tau = 1", request with { Sampler = Sampler.Ddim }, matching);
        Refused<NotSupportedException>("tau = 1", request with { Sampler = Sampler.DdimWithNoise(0.5) }, matching);
        Refused<NotSupportedException>("history", request with { Sampler = Sampler.StochasticDpmSolver2M }, matching);
        Refused<ArgumentException>("'conditioning'", request, matching with { BaseField = request.Field });
        Refused<ArgumentException>("'net.first'", request, matching with { BaseField = NoiseField.From((x, t) => net.Predict(x, t, zeros([2, 3], ScalarType.Float64))) });
        Refused<ArgumentException>("ClipQuantile", request, matching with { ClipQuantile = 1 });
        Refused<ArgumentException>("both zero", request, matching with { Last = 0 });
        Assert.Contains("each of 2 samples", Assert.Throws<ArgumentException>(() => matching.Differentiate(request, x => x.sum(), Token)).Message, StringComparison.Ordinal);
        Assert.Contains("does not depend", Assert.Throws<ArgumentException>(() => matching.Differentiate(request, x => Reward(x.detach()), Token)).Message, StringComparison.Ordinal);
        Assert.Contains("reward", Assert.Throws<NonFiniteException>(() => matching.Differentiate(request, x => Reward(x).log(), Token)).Message, StringComparison.Ordinal);

        static void Refused<T>(string text, SampleRequest request, AdjointMatching matching)
            where T : Exception
            => Assert.Contains(text, Assert.Throws<T>(() => matching.Differentiate(request, Reward, Token)).Message, StringComparison.Ordinal);
    }

    private static Tensor Reward(Tensor x)
    {
        using var third = 0.3.ToScalar();
        return x.mul(third).cos().sub(x.mul(x).mul(third)).sum([1, 2, 3]);
    }

    // Two networks of equal weights, one to be finetuned; eps on the variance-preserving schedule, a velocity on that of flows, from pure noise.
    private static (SampleRequest Request, AdjointMatching Matching) Problem(TinyDenoiser net, TinyDenoiser frozen, Sampler sampler, string schedule)
    {
        Tensor c = CounterNoise.Normal(new(5), [2, 3], ScalarType.Float64), own = c.clone();
        var grid = schedule == "vp"
            ? TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 8, 0.2, 2)
            : new TimeGrid(new FlowMatching(), [.. TimeGrid.UniformTime(new FlowMatching(), 9).Points.SkipLast(1)]);
        var prediction = schedule == "vp" ? Prediction.Epsilon : Prediction.Flow;
        var request = new SampleRequest
        {
            Field = (NoiseField.From((x, t) => net.Predict(x, t, c)) with { Prediction = prediction }).With("conditioning", c).With("net", net),
            Noise = CounterNoise.Normal(new(7), TinyDenoiser.Shape, ScalarType.Float64),
            Grid = grid,
            Sampler = sampler,
            Key = new(21),
        };
        return (request, new() { BaseField = NoiseField.From((x, t) => frozen.Predict(x, t, own)) with { Prediction = prediction } });
    }

    private static void Move(TinyDenoiser net)
    {
        using var grad = no_grad();
        using var step = 0.1.ToScalar();
        ushort draw = 0;
        foreach (var parameter in net.parameters())
            parameter.add_(CounterNoise.Normal(new(31, Draw: draw++), parameter.shape, ScalarType.Float64), step);
    }
}
