using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

public sealed class CheckpointTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static TheoryData<string, int> Cases()
    {
        var cases = new TheoryData<string, int>();
        foreach (var sampler in Sampler.Known)
        {
            foreach (var slots in sampler == Sampler.Heun ? new[] { 1, 2, 3, 6, 99 } : [2, 3])
                cases.Add(sampler.Name, slots);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Checkpointed_AnyNumberOfSlots_GivesTheBitsOfDiscrete(string sampler, int slots)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), "none", out _);
        using var expected = Sampling.Differentiate(request, x => x.Squared().mean(), cancellationToken: Token);
        var before = DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
        var actual = Sampling.Differentiate(request, x => x.Squared().mean(), GradientMethod.Checkpointed(slots), Token);
        Assert.True(actual.Noise.equal(expected.Noise).all().IsTrue());
        Assert.All(expected.Inputs, i => Assert.True(actual.Inputs[i.Key].equal(i.Value).all().IsTrue(), i.Key));
        Assert.Equal(expected.Statistics.Vjps, actual.Statistics.Vjps);
        Assert.Equal(actual.Statistics.BackwardNfe, actual.Statistics.Vjps + actual.Statistics.Recomputed);
        // The last state is at hand, so one slot less than steps leaves nothing to walk again.
        Assert.Equal(slots < 5, actual.Statistics.Recomputed > 0);
        actual.Dispose();
        Assert.InRange(DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount - before, 0, 2L * (1 + expected.Inputs.Count));
    }

    [Fact]
    public void Checkpointed_ManySteps_HoldsFewerStates()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _, steps: 64);
        using var all = Sampling.Differentiate(request, x => x.sum(), cancellationToken: Token);
        using var few = Sampling.Differentiate(request, x => x.sum(), GradientMethod.Checkpointed(8), Token);
        Assert.True(few.Statistics.PeakLiveTensors < all.Statistics.PeakLiveTensors - 40);
        Assert.Equal(CheckpointSchedule.Recomputed(64, 8), few.Statistics.Recomputed);
    }

    // r N - C(s + r, s + 1), by another way: the recurrence that it solves.
    [Fact]
    public void Schedule_EveryLengthAndNumberOfSlots_IsTheOptimum()
    {
        var least = new long[101, 13];
        for (var l = 1; l <= 100; l++)
        {
            for (var s = 1; s <= 12; s++)
            {
                least[l, s] = l == 1 ? 0 : s == 1 ? l * (l - 1L) / 2 : Enumerable.Range(1, l - 1).Min(m => m + least[l - m, s - 1] + least[m, s]);
                Assert.Equal(least[l, s], CheckpointSchedule.Walked(l, s));
                var next = CheckpointSchedule.Next(l, s);
                Assert.True(s == 1 || l == 1 ? next == l : least[l, s] == next + least[l - next, s - 1] + least[next, s], $"{l} steps, {s} slots");
            }
        }
    }

    [Fact]
    public void Checkpointed_ManyLengthsAndSlots_RecomputesTheOptimum()
    {
        using var scope = NewDisposeScope();
        foreach (var steps in (int[])[1, 2, 3, 5, 10, 17, 30, 64])
        {
            var request = ClosedFormTests.GaussianRequest(TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps), Sampler.Ddim, 0.3, tensor(0.7, ScalarType.Float64));
            using var all = Sampling.Differentiate(request, x => x.sum(), GradientMethod.Discrete, Token);
            foreach (var slots in (int[])[1, 2, 3, 4, 7, 16, 63, 100])
            {
                using var some = Sampling.Differentiate(request, x => x.sum(), GradientMethod.Checkpointed(slots), Token);
                Assert.Equal((CheckpointSchedule.Recomputed(steps, slots), steps), (some.Statistics.Recomputed, some.Statistics.Vjps));
                Assert.Equal(all.Noise.Number(), some.Noise.Number());
            }
        }

        Assert.Equal(0, CheckpointSchedule.Recomputed(30, 29));
        Assert.Equal(29 * 28 / 2, CheckpointSchedule.Recomputed(30, 1));
    }

    // A stage that a later one reads is made again for a state that was walked to, the others only with their graphs.
    [Fact]
    public void Checkpointed_RungeKutta_RepeatsOnlyStagesThatOthersRead()
    {
        using var scope = NewDisposeScope();
        var request = ClosedFormTests.GaussianRequest(TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 20), Sampler.Rk4, 0.3, tensor(0.7, ScalarType.Float64));
        using var some = Sampling.Differentiate(request, x => x.sum(), GradientMethod.Checkpointed(4), Token);
        Assert.InRange(some.Statistics.Recomputed, 4 * CheckpointSchedule.Recomputed(20, 4), (4 * CheckpointSchedule.Recomputed(20, 4)) + (3 * 19));
    }

    [Theory]
    [InlineData("ddim")]
    [InlineData("heun")]
    public void Truncated_LastSteps_IsTheGradientFromAConstantState(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), "sequential", out _, steps: 7);
        using var truncated = Sampling.Differentiate(request, x => x.Squared().mean(), GradientMethod.Truncated(3), Token);

        var points = request.Grid.Points;
        using var head = Sampling.Sample(request with { Grid = new(request.Grid.Schedule, [.. points.Take(5)]) }, Token);
        using var tail = Sampling.Differentiate(request with { Grid = new(request.Grid.Schedule, [.. points.Skip(4)]), Noise = head.Sample }, x => x.Squared().mean(), GradientMethod.StoreAll, Token);
        Assert.InRange(TestScalars.RelativeError(truncated.Sample, tail.Sample), 0, 1e-13);
        Assert.All(tail.Inputs, i => Assert.InRange(TestScalars.RelativeError(truncated.Inputs[i.Key], i.Value), 0, 1e-12));
        Assert.Equal(0, truncated.Noise.norm().Number());
        Assert.Equal(truncated.Statistics.ForwardNfe / 7 * 3, truncated.Statistics.BackwardNfe);

        using var whole = Sampling.Differentiate(request, x => x.Squared().mean(), GradientMethod.Discrete, Token);
        using var covered = Sampling.Differentiate(request, x => x.Squared().mean(), GradientMethod.Truncated(99), Token);
        Assert.True(whole.Noise.equal(covered.Noise).all().IsTrue());
    }

    [Fact]
    public void Checkpointed_NoSlots_SaysSo()
    {
        Assert.Contains("at least 1", Assert.Throws<ArgumentOutOfRangeException>(() => GradientMethod.Checkpointed(0)).Message, StringComparison.Ordinal);
        Assert.Contains("at least 1", Assert.Throws<ArgumentOutOfRangeException>(() => GradientMethod.Truncated(0)).Message, StringComparison.Ordinal);
        Assert.Equal("truncated(2)", GradientMethod.Truncated(2).Name);
    }
}
