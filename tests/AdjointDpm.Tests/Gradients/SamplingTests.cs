using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Costs, ownership and failures of a solve.</summary>
public sealed class SamplingTests
{
    private static readonly GradientMethod[] Methods = [GradientMethod.Discrete, GradientMethod.StoreAll, GradientMethod.Continuous()];

    private static readonly GradientMethod[] MoreMethods = [.. Methods, GradientMethod.Checkpointed(1), GradientMethod.Truncated(2), GradientMethod.AdjointDeis()];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("ddim", "discrete", 6, 6, 6, 0)]
    [InlineData("heun", "discrete", 12, 12, 12, 0)]
    [InlineData("rk4", "discrete", 24, 24, 24, 0)]
    [InlineData("ddim", "continuous", 6, 6, 6, 0)]
    [InlineData("rk4", "continuous", 24, 24, 24, 0)]
    [InlineData("heun", "store-all", 12, 0, 12, 1)]
    public void Differentiate_EveryMethod_CountsEvaluations(string sampler, string method, int forward, int backward, int vjps, int recomputed)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        using var result = Sampling.Differentiate(net.Request(Sampler.Named(sampler), "sequential", out _), x => x.sum(), Methods.Single(m => m.Name == method), Token);
        var cost = result.Statistics;
        Assert.Equal((6, forward, backward, vjps, recomputed), (cost.Steps, cost.ForwardNfe, cost.BackwardNfe, cost.Vjps, cost.Recomputed));
        Assert.True(cost.PeakLiveTensors > 0 && cost.Forward > TimeSpan.Zero && cost.Backward > TimeSpan.Zero);
    }

    [Fact]
    public void Differentiate_AnyOutcome_LeavesNoTensorBehindAndInputsAsTheyWere()
    {
        using var outer = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Heun, "sequential", out var c);
        var own = zeros_like(c);
        c.requires_grad = true;
        c.grad = own;
        foreach (var method in Methods)
        {
            Run(() => Sampling.Differentiate(request, x => x.sum(), method, Token).Dispose());
            Run(() => Assert.Throws<OperationCanceledException>(() => Sampling.Differentiate(request, x => x.sum(), method, new CancellationToken(true))));
            Run(() => Assert.Throws<ArgumentException>(() => Sampling.Differentiate(request, x => x, method, Token)));
        }

        Run(() => Sampling.Sample(request, Token).Dispose());
        Assert.True(c.requires_grad);
        Assert.Equal(0, c.grad!.norm().Number());

        static void Run(Action solve)
        {
            var before = DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
            solve();
            Assert.Equal(before, DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount);
        }
    }

    [Fact]
    public void Discrete_MoreSteps_HoldsStatesButOneGraph()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        long Peak(int steps, GradientMethod method)
        {
            using var result = Sampling.Differentiate(net.Request(Sampler.Ddim, "none", out _, steps), x => x.sum(), method, Token);
            return result.Statistics.PeakLiveTensors;
        }

        // One handle a step for the stored state; everything else is constant.
        Assert.InRange(Peak(24, GradientMethod.Discrete) - Peak(12, GradientMethod.Discrete), 12, 24);
    }

    [Fact]
    public void Differentiate_UndeclaredParameters_AreNamed()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var c = zeros(2, 3, ScalarType.Float64);
        var request = net.Request(Sampler.Ddim, "none", out _) with { Field = NoiseField.From((x, t) => net.Predict(x, t, c)).Knowing("net", net) };
        foreach (var method in Methods)
        {
            var error = Assert.Throws<UndeclaredInputException>(() => Sampling.Differentiate(request, x => x.sum(), method, Token));
            Assert.Equal(["net.first", "net.second", "net.time", "net.condition"], error.Names);
            Assert.Contains("NoiseField.Freeze", error.Message, StringComparison.Ordinal);
        }

        using var frozen = Sampling.Differentiate(request with { Field = request.Field.Freeze(net) }, x => x.sum(), cancellationToken: Token);
        Assert.Empty(frozen.Inputs);
        Assert.All(net.parameters(), p => Assert.True(p.requires_grad));
        // Without gradients nothing can be missing.
        Sampling.Sample(request, Token).Dispose();
    }

    [Fact]
    public void Differentiate_InputThatDoesNotMatter_IsZeroAndSaidSo()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var spare = ones(3, ScalarType.Float64);
        var request = net.Request(Sampler.Ddim, "none", out _);
        using var result = Sampling.Differentiate(request with { Field = request.Field.With("spare", spare) }, x => x.sum(), cancellationToken: Token);
        Assert.Equal(["spare"], result.Unreached);
        Assert.Equal(0, result.Inputs["spare"].norm().Number());
    }

    [Fact]
    public void Differentiate_LossReadsAnInputToo_AddsItsDirectGradient()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out var c);
        using var plain = Sampling.Differentiate(request, x => x.sum(), cancellationToken: Token);
        using var both = Sampling.Differentiate(request, x => x.sum().add(c.sum(), TestScalars.One), cancellationToken: Token);
        Assert.InRange(TestScalars.RelativeError(both.Inputs["conditioning"], plain.Inputs["conditioning"].add(ones_like(c), TestScalars.One)), 0, 1e-14);
    }

    [Fact]
    public void Differentiate_NoiseTurnsNotFinite_NamesTheFirstStep()
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 8);
        using var bad = double.NaN.ToScalar();
        var request = new SampleRequest { Field = NoiseField.From((x, t) => t <= grid.Points[5].Time ? x.mul(bad) : x), Noise = ones(1, 4, ScalarType.Float64), Grid = grid };
        foreach (var method in MoreMethods)
        {
            var error = Assert.Throws<NonFiniteException>(() => Sampling.Differentiate(request, x => x.sum(), method, Token));
            Assert.Equal(("prediction", 5, grid.Points[5].Rho), (error.What, error.Step, error.Rho));
            Assert.Contains("step 5", error.Message, StringComparison.Ordinal);
        }

        Assert.Equal(5, Assert.Throws<NonFiniteException>(() => Sampling.Sample(request, Token)).Step);
    }

    /// <summary>Of a network that the field knows the layer is named, too.</summary>
    [Fact]
    public void Differentiate_LayerTurnsNotFinite_NamesTheLayer()
    {
        using var scope = NewDisposeScope();
        using var first = nn.Linear(4, 4, dtype: ScalarType.Float64);
        using var second = nn.Linear(4, 4, dtype: ScalarType.Float64);
        using var network = nn.Sequential(("first", first), ("act", nn.Tanh()), ("second", second));
        var request = new SampleRequest { Field = NoiseField.From((x, _) => network.call(x)).Knowing("net", network).Freeze(network), Noise = ones(1, 4, ScalarType.Float64), Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 3) };
        using (no_grad())
            second.bias![2] = tensor(double.NaN);
        var error = Assert.Throws<NonFiniteException>(() => Sampling.Differentiate(request, x => x.sum(), cancellationToken: Token));
        Assert.Equal(("prediction", 0, "net.second"), (error.What, error.Step, error.Layer));
        Assert.Contains("first at step 0, rho = ", error.Message, StringComparison.Ordinal);
        Assert.Contains(", in net.second.", error.Message, StringComparison.Ordinal);
        var poisoned = request with { Field = NoiseField.From((x, _) => network.call(x.log().neg())).Knowing("net", network).Freeze(network), Noise = zeros(1, 4, ScalarType.Float64) };
        Assert.Equal("before net.first", Assert.Throws<NonFiniteException>(() => Sampling.Sample(poisoned, Token)).Layer);
    }

    [Fact]
    public void Differentiate_GradientTurnsNotFinite_NamesTheInput()
    {
        using var scope = NewDisposeScope();
        var w = zeros(1, ScalarType.Float64);
        var request = new SampleRequest
        {
            Field = NoiseField.From((x, _) => x.add(w.sqrt(), TestScalars.One)).With("w", w),
            Noise = ones(1, 4, ScalarType.Float64),
            Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 4),
        };
        foreach (var method in MoreMethods)
        {
            var error = Assert.Throws<NonFiniteException>(() => Sampling.Differentiate(request, x => x.sum(), method, Token));
            Assert.Equal(("gradient of input 'w'", 3), (error.What, error.Step));
        }

        using var nan = double.NaN.ToScalar();
        Assert.Equal("loss", Assert.Throws<NonFiniteException>(() => Sampling.Differentiate(request, x => x.mul(nan).sum(), cancellationToken: Token)).What);
    }

    [Fact]
    public void Differentiate_Progress_ReportsBothPhases()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var heard = new List<SolveProgress>();
        Sampling.Differentiate(net.Request(Sampler.Ddim, "none", out _, 2) with { Progress = new Listener(heard) }, x => x.sum(), cancellationToken: Token).Dispose();
        Assert.Equal([new(SolvePhase.Forward, 1, 2), new(SolvePhase.Forward, 2, 2), new(SolvePhase.Backward, 1, 2), new(SolvePhase.Backward, 2, 2)], heard);
    }

    [Fact]
    public void Differentiate_CancelledOnTheWay_StopsAtTheNextStep()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        using var source = new CancellationTokenSource();
        var heard = new List<SolveProgress>();
        var request = net.Request(Sampler.Ddim, "none", out _) with { Progress = new Listener(heard, p => p is { Phase: SolvePhase.Backward, Done: 2 }, source) };
        Assert.Throws<OperationCanceledException>(() => Sampling.Differentiate(request, x => x.sum(), cancellationToken: source.Token));
        Assert.Equal(new(SolvePhase.Backward, 2, 6), heard[^1]);
    }

    [Fact]
    public void Differentiate_WrongUse_SaysWhatToDo()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out var c);
        Assert.Contains("mean()", Assert.Throws<ArgumentException>(() => Sampling.Differentiate(request, x => x, cancellationToken: Token)).Message, StringComparison.Ordinal);
        Assert.Contains("detached", Assert.Throws<ArgumentException>(() => Sampling.Differentiate(request, x => x.detach().sum(), cancellationToken: Token)).Message, StringComparison.Ordinal);
        Assert.Contains("already declared", Assert.Throws<ArgumentException>(() => request.Field.With("conditioning", c)).Message, StringComparison.Ordinal);
        Assert.Contains("Float16", Assert.Throws<ArgumentException>(() => Sampling.Sample(request with { Noise = request.Noise.to(ScalarType.Float16) }, Token)).Message, StringComparison.Ordinal);
        var clean = request with { Grid = TimeGrid.Diffusers(DiscreteVp.StableDiffusion, GridKind.Trailing, 4) };
        Assert.Contains("rho = 0", Assert.Throws<NotSupportedException>(() => Sampling.Differentiate(clean, x => x.sum(), GradientMethod.Continuous(), Token)).Message, StringComparison.Ordinal);
        Assert.Contains("shape [2, 2]", Assert.Throws<InvalidOperationException>(() => Sampling.Sample(request with { Field = NoiseField.From((x, _) => x.sum([2, 3])) }, Token)).Message, StringComparison.Ordinal);
        Assert.Contains("ddim", Assert.Throws<ArgumentException>(() => Sampler.Named("dimm")).Message, StringComparison.Ordinal);
    }

    private sealed class Listener(List<SolveProgress> heard, Predicate<SolveProgress>? stopAt = null, CancellationTokenSource? source = null) : IProgress<SolveProgress>
    {
        public void Report(SolveProgress value)
        {
            heard.Add(value);
            if (stopAt?.Invoke(value) == true)
                source!.Cancel();
        }
    }
}
