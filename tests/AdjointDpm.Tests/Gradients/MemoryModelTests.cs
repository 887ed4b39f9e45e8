using System.Collections.Immutable;
using AdjointDpm.Gradients;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Predicted against measured memory. Bytes are of the whole process: nothing else may run meanwhile.</summary>
[Collection(nameof(NativeHeapTests))]
public sealed class MemoryModelTests
{
    private static readonly int[] StepCounts = [1, 3, 16];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    // A UNet of diffusers' layout with 3.9 million weights, all of them declared: gradients of inputs matter as much as activations.
    [Fact]
    public void Unet_EveryNumberOfSteps_IsPredictedWithinATenth()
    {
        using var scope = NewDisposeScope();
        using var unet = TinyModels.Unet();
        var request = Request(Field(unet).With("unet", unet), [1, 4, 16, 16]);
        var model = MemoryModel.Measure(request, Loss);
        Assert.Equal(4 * unet.parameters().Sum(p => p.numel()), model.InputGradients);
        foreach (var steps in StepCounts)
        {
            foreach (var method in (GradientMethod[])[GradientMethod.StoreAll, GradientMethod.Discrete, GradientMethod.Checkpointed(6)])
                Within(0.1, model, request, method, steps);
        }
    }

    [Fact]
    public void Discrete_ThirtyTwoStepsOfAUnet_TakeHardlyMoreThanOne()
    {
        using var scope = NewDisposeScope();
        using var unet = TinyModels.Unet();
        Assert.InRange(unet.parameters().Sum(p => p.numel()), 3_900_000, 4_000_000);
        var request = Request(Field(unet).Freeze(unet), [1, 4, 32, 32]);
        var (one, many) = (Measured(request, GradientMethod.Discrete, 1), Measured(request, GradientMethod.Discrete, 32, rounds: 1));
        Assert.True(many <= 1.5 * one, $"1 step: {one:n0} bytes, 32 steps: {many:n0}");
    }

    // States of a megabyte and a network that keeps little: the count of states is what matters. The least favourable case, as peaks of states and network that do not coincide are added.
    [Theory]
    [InlineData("ddim", "checkpointed", 0.1)]
    [InlineData("ddim", "store-all", 0.1)]
    [InlineData("heun", "checkpointed", 0.1)]
    [InlineData("heun", "store-all", 0.2)]
    [InlineData("dpm++2m", "checkpointed", 0.1)]
    [InlineData("dpm++2m", "store-all", 0.2)]
    [InlineData("rk4", "discrete", 0.1)]
    [InlineData("ab4", "discrete", 0.1)]
    [InlineData("ddim", "truncated", 0.2)]
    [InlineData("heun", "continuous", 0.2)]
    [InlineData("heun", "adjoint-deis", 0.2)]
    [InlineData("reversible", "reversible", 0.2)]
    public void LargeStates_EveryMethod_IsPredicted(string sampler, string method, double tolerance)
    {
        using var scope = NewDisposeScope();
        using Scalar slope = 0.3.ToScalar();
        var field = NoiseField.From((x, _) => x.mul(slope).tanh());
        var request = Request(field, [1, 4, 256, 256]) with { Sampler = sampler == "reversible" ? new ReversibleSampler(ButcherTableau.Midpoint) : Sampler.Named(sampler) };
        Within(tolerance, MemoryModel.Measure(request, Loss), request, Method(method), 9);
    }

    [Fact]
    public void KeptGradientsAndLossesOnStates_ArePredictedWithinATenth()
    {
        using var scope = NewDisposeScope();
        using Scalar slope = 0.3.ToScalar();
        var request = Request(NoiseField.From((x, _) => x.mul(slope).tanh()), [1, 4, 256, 256]);
        var objective = new Objective { OnSample = Loss, KeepStateGradients = true, OnStates = ImmutableSortedDictionary<int, Func<Tensor, Tensor>>.Empty.Add(3, x => x.sin().mean()) };
        foreach (var method in (GradientMethod[])[GradientMethod.Discrete, GradientMethod.Checkpointed(2)])
            Within(0.1, MemoryModel.Measure(request, objective), request, method, 9, objective);
    }

    [Fact]
    public void Evaluations_OfEverySamplerAndSlots_AreThoseCounted()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        foreach (var sampler in Sampler.Known)
        {
            var request = net.Request(sampler, "none", out _, steps: 7);
            var model = MemoryModel.Measure(request, Loss);
            foreach (var method in (GradientMethod[])[GradientMethod.StoreAll, GradientMethod.Discrete, GradientMethod.Checkpointed(2), GradientMethod.Truncated(3)])
            {
                using var result = Sampling.Differentiate(request, Loss, method, Token);
                var counted = result.Statistics.ForwardNfe + result.Statistics.BackwardNfe + (method == GradientMethod.StoreAll ? 1 : 0);
                Assert.True(counted == model.Plan(method).Evaluations, $"{sampler}, {method}: {counted} counted, {model.Plan(method).Evaluations} planned");
            }
        }
    }

    [Fact]
    public void Choose_LessAndLessMemory_TakesTheCheapestThatFits()
    {
        using var scope = NewDisposeScope();
        using Scalar slope = 0.3.ToScalar();
        var request = Request(NoiseField.From((x, _) => x.mul(slope).tanh().mul(slope).sin().mul(slope).tanh()), [1, 4, 128, 128]) with { Grid = Grid(24) };
        var model = MemoryModel.Measure(request, Loss);
        var (all, discrete, one) = (Peak(GradientMethod.StoreAll), Peak(GradientMethod.Discrete), Peak(GradientMethod.Checkpointed(1)));
        Assert.True(one < 0.8 * discrete && discrete < 0.8 * all, $"{one:n0}, {discrete:n0}, {all:n0}");
        Assert.Same(GradientMethod.StoreAll, Choose(1.1 * all).Method);
        Assert.Same(GradientMethod.Discrete, Choose(0.9 * all).Method);
        Assert.Same(GradientMethod.Discrete, Choose(1.1 * discrete).Method);
        var slots = Choose(0.9 * discrete);
        Assert.StartsWith("checkpointed(", slots.Method.Name, StringComparison.Ordinal);
        Assert.InRange(slots.PeakBytes, 1.1 * one, 0.9 * discrete);
        Assert.Contains("by checkpointed(1)", Assert.Throws<InsufficientMemoryException>(() => Choose(0.9 * one)).Message, StringComparison.Ordinal);

        long Peak(GradientMethod method) => model.Plan(method).PeakBytes;

        MemoryPlan Choose(double budget) => model.Choose((long)budget);
    }

    [Fact]
    public void Measure_LeavesInputsAsTheyWere()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out var c);
        c.requires_grad = false;
        MemoryModel.Measure(request, Loss);
        Assert.False(c.requires_grad);
        Assert.All(net.parameters(), p => Assert.Null(p.grad));
        Assert.Contains("finds its steps", Assert.Throws<NotSupportedException>(() => MemoryModel.Measure(request with { Sampler = new AdaptiveSampler(ButcherTableau.Dopri5, new() { Relative = 1e-3, Absolute = 1e-3 }) }, Loss)).Message, StringComparison.Ordinal);
    }

    private static Tensor Loss(Tensor x) => x.mul(x).mean();

    private static TimeGrid Grid(int steps) => TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps);

    private static SampleRequest Request(NoiseField field, long[] shape) => new() { Field = field, Noise = CounterNoise.Normal(new(2), shape), Grid = Grid(9) };

    private static GradientMethod Method(string name) => name switch
    {
        "store-all" => GradientMethod.StoreAll,
        "discrete" => GradientMethod.Discrete,
        "checkpointed" => GradientMethod.Checkpointed(3),
        "truncated" => GradientMethod.Truncated(4),
        "continuous" => GradientMethod.Continuous(),
        "adjoint-deis" => GradientMethod.AdjointDeis(2),
        "reversible" => GradientMethod.Reversible,
        _ => throw new ArgumentException(name),
    };

    private static NoiseField Field(UNet2DModel unet) => NoiseField.From((x, t) => unet.call(x, full([x.shape[0]], t, ScalarType.Float32), null));

    // On a busy machine the runtime may give memory back in the middle of a round, which hides as much of the peak: then more rounds, and their median.
    private static void Within(double tolerance, MemoryModel model, SampleRequest request, GradientMethod method, int steps, Objective? objective = null)
    {
        var plan = model.Plan(method, Grid(steps));
        var measured = Measured(request, method, steps, objective);
        if (!Fits(measured))
            measured = Enumerable.Range(0, 5).Select(_ => Measured(request, method, steps, objective, rounds: 1)).Order().ElementAt(2);
        Assert.True(Fits(measured), $"{request.Sampler}, {method}, {steps} steps: held {measured:n0}, planned {plan.PeakBytes:n0}. {plan}");

        bool Fits(long held) => Math.Abs(plan.PeakBytes - held) <= tolerance * held;
    }

    // The kernel's high-water mark. Code that is compiled in the first runs adds to it: the least counts.
    private static long Measured(SampleRequest request, GradientMethod method, int steps, Objective? objective = null, int rounds = 2)
    {
        var measured = request with { Grid = Grid(steps), Progress = HighWater.Collecting };
        return Enumerable.Range(0, rounds).Min(_ => HighWater.Of(() =>
        {
            using var result = Sampling.Differentiate(measured, objective ?? new() { OnSample = Loss }, method, Token);
        }));
    }
}
