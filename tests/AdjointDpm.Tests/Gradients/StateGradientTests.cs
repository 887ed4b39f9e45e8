using System.Collections.Immutable;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Gradients of states on the way, losses on them, and controls of them.</summary>
public sealed class StateGradientTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static TheoryData<string> Names() => [.. Sampler.Known.Select(s => s.Name)];

    private static Objective Everything => new()
    {
        OnSample = x => x.Squared().mean().log(),
        OnStates = ImmutableSortedDictionary<int, Func<Tensor, Tensor>>.Empty.Add(0, x => x.cos().mean()).Add(3, x => x.Squared().mean().log()),
        KeepStateGradients = true,
    };

    [Theory]
    [MemberData(nameof(Names))]
    public void Discrete_LossesOnStates_EqualAutomaticDifferentiation(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Named(sampler), "sequential", out _);
        using var expected = Sampling.Differentiate(request, Everything, GradientMethod.StoreAll, Token);
        using var plain = Sampling.Differentiate(request, Everything.OnSample!, cancellationToken: Token);
        foreach (var method in new[] { GradientMethod.Discrete, GradientMethod.Checkpointed(2) })
        {
            using var actual = Sampling.Differentiate(request, Everything, method, Token);
            Assert.Equal(expected.Loss, actual.Loss, 1e-13);
            Assert.Equal(7, actual.States.Count);
            foreach (var (state, reference) in actual.States.Zip(expected.States))
                Assert.InRange(TestScalars.RelativeError(state, reference), 0, 1e-12);
            foreach (var (name, gradient) in expected.Inputs)
            {
                Assert.InRange(TestScalars.RelativeError(actual.Inputs[name], gradient), 0, 1e-12);
                Assert.True(TestScalars.RelativeError(plain.Inputs[name], gradient) > 1e-4, name);
            }

            Assert.InRange(TestScalars.RelativeError(actual.Noise, expected.Noise), 0, 1e-12);
            // x_T is the first state, and the last is the loss's own gradient.
            Assert.InRange(TestScalars.RelativeError(actual.Noise, actual.States[0]), 0, 1e-14);
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void WhoeverIsTold_SeesEveryStatesGradient_AndChangesNothing(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Named(sampler), "sequential", out _);
        foreach (var method in new[] { GradientMethod.StoreAll, GradientMethod.Discrete, GradientMethod.Checkpointed(2) })
        {
            using var kept = Sampling.Differentiate(request, new Objective { OnSample = Everything.OnSample, KeepStateGradients = true }, method, Token);
            using var plain = Sampling.Differentiate(request, Everything.OnSample!, method, Token);
            var told = new SortedDictionary<int, double>();
            using var watched = Sampling.Differentiate(request, new Objective { OnSample = Everything.OnSample, OnStateGradient = (point, gradient) => told[point] = gradient.norm().Number() }, method, Token);
            Assert.Equal(Enumerable.Range(0, 7), told.Keys);
            Assert.Equal(kept.States.Select(state => state.norm().Number()), told.Values);
            Assert.Empty(watched.States);
            Assert.Equal(0, TestScalars.RelativeError(watched.Noise, plain.Noise));
            foreach (var (name, gradient) in plain.Inputs)
                Assert.Equal(0, TestScalars.RelativeError(watched.Inputs[name], gradient));
        }
    }

    [Theory]
    [InlineData("ddim")]
    [InlineData("dpm++2m")]
    [InlineData("heun")]
    [InlineData("unipc2")]
    [InlineData("ddpm")]
    public void States_EqualFiniteDifferencesOfControls(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Named(sampler), "none", out _);
        var given = CounterNoise.Normal(new(31), TinyDenoiser.Shape, ScalarType.Float64);
        request = request with { Controls = [null, given, null, null] };
        using var unrolled = Sampling.Differentiate(request, Everything, GradientMethod.StoreAll, Token);
        using var result = Sampling.Differentiate(request, Everything, GradientMethod.Checkpointed(2), Token);
        Assert.InRange(TestScalars.RelativeError(result.Noise, unrolled.Noise), 0, 1e-12);
        for (var n = 0; n < 6; n++)
        {
            var direction = CounterNoise.Normal(new(77, (uint)n), TinyDenoiser.Shape, ScalarType.Float64);
            var expected = result.States[n].mul(direction).sum().Number();
            var actual = (Loss(n, direction, 1e-5) - Loss(n, direction, -1e-5)) / 2e-5;
            Assert.Equal(expected, actual, 1e-6 * Math.Max(1, result.States[n].norm().Number()));
        }

        double Loss(int n, Tensor direction, double by)
        {
            using var scalar = by.ToScalar();
            var controls = new Tensor?[6];
            controls[1] = given;
            controls[n] = controls[n] is { } own ? own.add(direction, scalar) : direction.mul(scalar);
            using var moved = Sampling.Differentiate(request with { Controls = controls }, Everything with { KeepStateGradients = false }, cancellationToken: Token);
            return moved.Loss;
        }
    }

    [Fact]
    public void EveryOtherMethod_KeepsStatesAndMeetsLosses()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        // Reversible: the same gradients as the discrete adjoint of the same sampler.
        var request = net.ModerateRequest(new ReversibleSampler(ButcherTableau.Midpoint), "none", out _);
        using var discrete = Sampling.Differentiate(request, Everything, cancellationToken: Token);
        using var undone = Sampling.Differentiate(request, Everything, GradientMethod.Reversible, Token);
        Assert.All(undone.States.Zip(discrete.States), s => Assert.InRange(TestScalars.RelativeError(s.First, s.Second), 0, 1e-11));
        Assert.All(discrete.Inputs, i => Assert.InRange(TestScalars.RelativeError(undone.Inputs[i.Key], i.Value), 0, 1e-11));

        // Both continuous adjoints converge to them.
        request = net.ModerateRequest(Sampler.Rk4, "none", out _, steps: 40);
        using var exact = Sampling.Differentiate(request, Everything, cancellationToken: Token);
        foreach (var method in new[] { GradientMethod.Continuous(), GradientMethod.Continuous(new StepControl { Relative = 1e-8, Absolute = 1e-9 }) })
        {
            using var continuous = Sampling.Differentiate(request, Everything, method, Token);
            Assert.Equal(exact.Loss, continuous.Loss, 1e-12);
            Assert.Equal(41, continuous.States.Count);
            Assert.All(continuous.States.Zip(exact.States), s => Assert.InRange(TestScalars.RelativeError(s.First, s.Second), 0, 2e-3));
        }

        // Points of an adaptive sampler are those asked for.
        request = request with { Sampler = new AdaptiveSampler(ButcherTableau.Dopri5, new() { Relative = 1e-4, Absolute = 1e-4 }), Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 5) };
        using var adaptive = Sampling.Differentiate(request, Everything, cancellationToken: Token);
        using var unrolled = Sampling.Differentiate(request, Everything, GradientMethod.StoreAll, Token);
        Assert.Equal(6, adaptive.States.Count);
        Assert.All(adaptive.States.Zip(unrolled.States), s => Assert.InRange(TestScalars.RelativeError(s.First, s.Second), 0, 1e-11));
    }

    [Fact]
    public void Truncated_StatesBeforeTheLastSteps_AreConstants()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Ddim, "none", out _);
        var objective = Everything with { OnStates = Everything.OnStates.Remove(0) };
        using var whole = Sampling.Differentiate(request, objective, cancellationToken: Token);
        using var last = Sampling.Differentiate(request, objective, GradientMethod.Truncated(3), Token);
        Assert.All(Enumerable.Range(0, 3), n => Assert.Equal(0, last.States[n].norm().Number()));
        Assert.All(Enumerable.Range(3, 4), n => Assert.Equal(0, TestScalars.RelativeError(last.States[n], whole.States[n])));
        Assert.Contains("from point 3 on", Assert.Throws<NotSupportedException>(() => Sampling.Differentiate(request, Everything, GradientMethod.Truncated(3), Token)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnyOutcome_LeavesNoTensorBehind()
    {
        using var outer = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.DpmSolver2M, "sequential", out _) with { Controls = [CounterNoise.Normal(new(31), TinyDenoiser.Shape, ScalarType.Float64)] };
        foreach (var method in new[] { GradientMethod.Discrete, GradientMethod.StoreAll, GradientMethod.Checkpointed(2), GradientMethod.Truncated(6) })
        {
            var before = DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
            Sampling.Differentiate(request, Everything, method, Token).Dispose();
            Assert.Throws<ArgumentException>(() => Sampling.Differentiate(request, Everything with { OnStates = Everything.OnStates.SetItem(0, x => x) }, method, Token));
            Assert.Equal(before, DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount);
        }
    }

    [Fact]
    public void WrongUse_SaysWhatToDo()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Ddim, "none", out _);
        Assert.Contains("OnSample", Assert.Throws<ArgumentException>(() => Sampling.Differentiate(request, new Objective(), cancellationToken: Token)).Message, StringComparison.Ordinal);
        Assert.Contains("points 0 to 5", Assert.Throws<ArgumentException>(() => Sampling.Differentiate(request, Everything with { OnStates = Everything.OnStates.Add(6, x => x.sum()) }, cancellationToken: Token)).Message, StringComparison.Ordinal);
        var controlled = request with { Controls = [request.Noise] };
        Assert.Contains("predictor", Assert.Throws<NotSupportedException>(() => Sampling.Differentiate(controlled, Everything, GradientMethod.Continuous(), Token)).Message, StringComparison.Ordinal);
        Assert.Contains("its state is two", Assert.Throws<NotSupportedException>(() => Sampling.Sample(controlled with { Sampler = new ReversibleSampler(ButcherTableau.Midpoint) }, Token)).Message, StringComparison.Ordinal);
        Assert.Contains("7 controls", Assert.Throws<ArgumentException>(() => Sampling.Sample(request with { Controls = new Tensor?[7] }, Token)).Message, StringComparison.Ordinal);
    }
}
