using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
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
        using var expected = Sampling.Differentiate(request, x => x.square().mean(), cancellationToken: Token);
        var before = DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
        var actual = Sampling.Differentiate(request, x => x.square().mean(), GradientMethod.Checkpointed(slots), Token);
        Assert.True(actual.Noise.equal(expected.Noise).all().ToBoolean());
        Assert.All(expected.Inputs, i => Assert.True(actual.Inputs[i.Key].equal(i.Value).all().ToBoolean(), i.Key));
        Assert.Equal(expected.Statistics.Vjps, actual.Statistics.Vjps);
        Assert.Equal(actual.Statistics.BackwardNfe, actual.Statistics.Vjps + actual.Statistics.Recomputed);
        // One stretch, or stretches of one step, leave nothing to walk again.
        Assert.Equal(slots is 2 or 3, actual.Statistics.Recomputed > 0);
        Assert.True(actual.Statistics.Recomputed < actual.Statistics.ForwardNfe);
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
        // All stretches but the last are walked once more, up to their last state.
        Assert.Equal(7 * 7, few.Statistics.Recomputed);
    }

    [Theory]
    [InlineData("ddim")]
    [InlineData("heun")]
    public void Truncated_LastSteps_IsTheGradientFromAConstantState(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), "sequential", out _, steps: 7);
        using var truncated = Sampling.Differentiate(request, x => x.square().mean(), GradientMethod.Truncated(3), Token);

        var points = request.Grid.Points;
        using var head = Sampling.Sample(request with { Grid = new(request.Grid.Schedule, [.. points.Take(5)]) }, Token);
        using var tail = Sampling.Differentiate(request with { Grid = new(request.Grid.Schedule, [.. points.Skip(4)]), Noise = head.Sample }, x => x.square().mean(), GradientMethod.StoreAll, Token);
        Assert.InRange(TestScalars.RelativeError(truncated.Sample, tail.Sample), 0, 1e-13);
        Assert.All(tail.Inputs, i => Assert.InRange(TestScalars.RelativeError(truncated.Inputs[i.Key], i.Value), 0, 1e-12));
        Assert.Equal(0, truncated.Noise.norm().ToDouble());
        Assert.Equal(truncated.Statistics.ForwardNfe / 7 * 3, truncated.Statistics.BackwardNfe);

        using var whole = Sampling.Differentiate(request, x => x.square().mean(), GradientMethod.Discrete, Token);
        using var covered = Sampling.Differentiate(request, x => x.square().mean(), GradientMethod.Truncated(99), Token);
        Assert.True(whole.Noise.equal(covered.Noise).all().ToBoolean());
    }

    [Fact]
    public void Checkpointed_NoSlots_SaysSo()
    {
        Assert.Contains("at least 1", Assert.Throws<ArgumentOutOfRangeException>(() => GradientMethod.Checkpointed(0)).Message, StringComparison.Ordinal);
        Assert.Contains("at least 1", Assert.Throws<ArgumentOutOfRangeException>(() => GradientMethod.Truncated(0)).Message, StringComparison.Ordinal);
        Assert.Equal("truncated(2)", GradientMethod.Truncated(2).Name);
    }
}
