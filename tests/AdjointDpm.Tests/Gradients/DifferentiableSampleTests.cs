using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

public sealed class DifferentiableSampleTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public static TheoryData<string, string, string> Cases => new()
    {
        { "discrete", "heun", "sequential" }, { "discrete", "unipc3", "batched" }, { "discrete", "sde-dpm++2m", "none" }, { "checkpointed", "rk4", "sequential" },
        { "store-all", "dpm++2m", "sequential" }, { "reversible", "reversible", "none" }, { "continuous", "ddim", "none" }, { "adaptive", "adaptive", "none" },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Backward_GivesTheBitsOfDifferentiate(string name, string sampler, string guidance)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(SamplerOf(sampler), guidance, out var c, steps: sampler == "adaptive" ? 2 : 5) with { };
        using var expected = Sampling.Differentiate(request, Loss, MethodOf(name), Cancel);
        Want(request);

        using var drawn = DifferentiableSample.Draw(request, MethodOf(name), cancellationToken: Cancel);
        Assert.True(drawn.Sample.requires_grad);
        Same(expected.Sample, drawn.Sample.detach());
        drawn.Backward(Loss(drawn.Sample));
        Same(expected.Noise, request.Noise.grad!);
        foreach (var (input, value) in request.Field.Inputs)
            Same(expected.Inputs[input], value.grad!);
        Assert.Equal((expected.Statistics.ForwardNfe, expected.Statistics.BackwardNfe, expected.Statistics.Vjps), (drawn.Statistics.ForwardNfe, drawn.Statistics.BackwardNfe, drawn.Statistics.Vjps));
    }

    [Fact]
    public void Backward_IsPartOfTheCallersGraph_OnBothSides()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Heun, "none", out var c, steps: 4);

        // x_T and the conditioning are computed; the loss reads the sample twice and the weights by themselves; two samplers share the weights.
        var z = CounterNoise.Normal(new(20), TinyDenoiser.Shape, ScalarType.Float64).requires_grad_();
        var text = CounterNoise.Normal(new(21), [2, 3], ScalarType.Float64).requires_grad_();
        Tensor Noise() => z.mul(z).sub(z);
        Tensor Encoded() => text.sin();

        Want(request);
        using (no_grad())
            c.copy_(Encoded());
        var encoded = Encoded();
        using var first = DifferentiableSample.Draw(request with { Noise = Noise() }, behind: new Dictionary<string, Tensor> { ["conditioning"] = encoded }, cancellationToken: Cancel);
        using var second = DifferentiableSample.Draw(request with { Noise = Noise().mul(z) }, GradientMethod.Checkpointed(1), new Dictionary<string, Tensor> { ["conditioning"] = encoded }, Cancel);
        Total(first.Sample, second.Sample).backward();
        first.ThrowIfFailed();
        second.ThrowIfFailed();
        var (gotZ, gotText, gotWeights) = (z.grad!.clone(), text.grad!.clone(), net.parameters().Select(p => p.grad!.clone()).ToList());

        foreach (var leaf in net.parameters().Append(z).Append(text))
            leaf.grad = null;
        var live = Encoded();
        var field = NoiseField.From((x, t) => net.Predict(x, t, live));
        Total(Unrolled(request with { Field = field }, Noise()), Unrolled(request with { Field = field }, Noise().mul(z))).backward();
        Near(z.grad!, gotZ);
        Near(text.grad!, gotText);
        foreach (var (expected, got) in net.parameters().Zip(gotWeights))
            Near(expected.grad!, got);

        Tensor Total(Tensor a, Tensor b) => Loss(a).add(a.mul(b).sum(), TestScalars.One).add(net.parameters().First().mul(net.parameters().First()).sum(), TestScalars.One);
    }

    [Fact]
    public void Backward_Twice_IsAnErrorThatSaysWhatToDo()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _, steps: 3);
        Want(request);
        using var drawn = DifferentiableSample.Draw(request, cancellationToken: Cancel);
        var loss = Loss(drawn.Sample);
        loss.backward(retain_graph: true);
        drawn.ThrowIfFailed();
        var error = Assert.Throws<InvalidOperationException>(() => drawn.Backward(loss));
        Assert.Contains("Sample again for another backward().", error.Message, StringComparison.Ordinal);
        Assert.True(request.Noise.grad!.isnan().all().IsTrue());
    }

    [Fact]
    public void Backward_WithCreateGraph_IsRefused()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _, steps: 3);
        Want(request);
        using var drawn = DifferentiableSample.Draw(request, cancellationToken: Cancel);
        Loss(drawn.Sample).backward(retain_graph: true, create_graph: true);
        Assert.IsType<NotSupportedException>(drawn.Failure);
        Assert.Throws<InvalidOperationException>(drawn.ThrowIfFailed);
        foreach (var leaf in net.parameters().Append(request.Noise))
            leaf.grad = null;
    }

    [Fact]
    public void WhatThePredictorThrowsOnTheWayBack_IsThrownToTheCaller_AndInputsAreAsBefore()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var calls = 0;
        var request = net.Request(Sampler.Ddim, "none", out var c, steps: 3);
        request = request with { Field = NoiseField.From((x, t) => ++calls > 5 ? throw new TimeoutException("Too late.") : net.Predict(x, t, c)).With("net", net).With("c", c) };
        Want(request);
        using var drawn = DifferentiableSample.Draw(request, cancellationToken: Cancel);
        var error = Assert.Throws<InvalidOperationException>(() => drawn.Backward(Loss(drawn.Sample)));
        Assert.IsType<TimeoutException>(error.InnerException);
        Assert.All(request.Field.Inputs, input => Assert.True(input.Value.requires_grad));
    }

    [Fact]
    public void NonFinite_OnTheWayBack_NamesStepAndPlace()
    {
        using var scope = NewDisposeScope();
        var calls = 0;
        var request = new SampleRequest
        {
            // sqrt has an infinite derivative at 0, and none shows on the way forward.
            Field = NoiseField.From((x, t) => calls++ is >= 0 && t < 400 ? x.mul(x).sub(x.mul(x)).sqrt() : x.mul(x)),
            Noise = CounterNoise.Normal(new(7), [1, 2], ScalarType.Float64).requires_grad_(),
            Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 4, rhoMin: 0.1, rhoMax: 2),
        };
        using var drawn = DifferentiableSample.Draw(request, cancellationToken: Cancel);
        var error = Assert.Throws<InvalidOperationException>(() => drawn.Backward(Loss(drawn.Sample)));
        Assert.True(Assert.IsType<NonFiniteException>(error.InnerException).Step >= 1);
    }

    [Fact]
    public void Draw_Errors_AreThoseOfDifferentiate()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out var c, steps: 3);
        var undeclared = request with { Field = NoiseField.From((x, t) => net.Predict(x, t, c)).Knowing("net", net).With("c", c) };
        Assert.Contains("net.first", Assert.Throws<UndeclaredInputException>(() => DifferentiableSample.Draw(undeclared, cancellationToken: Cancel)).Message, StringComparison.Ordinal);
        Assert.Throws<NotSupportedException>(() => DifferentiableSample.Draw(request, GradientMethod.Reversible, cancellationToken: Cancel));
        Assert.Contains("No input named 'text'", Assert.Throws<ArgumentException>(() => DifferentiableSample.Draw(request, behind: new Dictionary<string, Tensor> { ["text"] = c }, cancellationToken: Cancel)).Message, StringComparison.Ordinal);
        Assert.Contains("Declare its detached copy", Assert.Throws<ArgumentException>(() => DifferentiableSample.Draw(request, behind: new Dictionary<string, Tensor> { ["conditioning"] = c.narrow(0, 0, 1) }, cancellationToken: Cancel)).Message, StringComparison.Ordinal);
        using var cancelled = new CancellationTokenSource();
        using var drawn = DifferentiableSample.Draw(request with { Noise = request.Noise.clone().requires_grad_() }, cancellationToken: cancelled.Token);
        cancelled.Cancel();
        Assert.IsType<OperationCanceledException>(Assert.Throws<InvalidOperationException>(() => drawn.Backward(Loss(drawn.Sample))).InnerException);
    }

    [Fact]
    public void NothingRequiresGrad_GivesAPlainSample()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _, steps: 3);
        foreach (var parameter in net.parameters())
            parameter.requires_grad = false;
        using var drawn = DifferentiableSample.Draw(request, cancellationToken: Cancel);
        using var plain = Sampling.Sample(request, Cancel);
        Assert.False(drawn.Sample.requires_grad);
        Same(plain.Sample, drawn.Sample);
    }

    private static Tensor Loss(Tensor x) => x.mul(x).mul(x).mean();

    private static Sampler SamplerOf(string name) => name switch
    {
        "reversible" => new ReversibleSampler(ButcherTableau.Midpoint),
        "adaptive" => new AdaptiveSampler(ButcherTableau.Bosh3, new StepControl { Relative = 1e-2, Absolute = 1e-2 }),
        _ => Sampler.Named(name),
    };

    private static GradientMethod MethodOf(string name) => name switch
    {
        "checkpointed" => GradientMethod.Checkpointed(2),
        "store-all" => GradientMethod.StoreAll,
        "reversible" => GradientMethod.Reversible,
        "continuous" => GradientMethod.Continuous(),
        _ => GradientMethod.Discrete,
    };

    // Heun's method by hand, in the caller's own graph.
    private static Tensor Unrolled(SampleRequest request, Tensor noise)
    {
        var points = request.Grid.Points;
        var y = noise.Times(1 / points[0].Level.Alpha);
        for (var n = 0; n < request.Grid.Steps; n++)
        {
            var (from, to) = (points[n], points[n + 1]);
            var h = to.Rho - from.Rho;
            var first = request.Field.Evaluate(y.Times(from.Level.Alpha), from);
            var second = request.Field.Evaluate(y.add(first.Times(h), TestScalars.One).Times(to.Level.Alpha), to);
            y = y.add(first.add(second, TestScalars.One).Times(h / 2), TestScalars.One);
        }

        return y.Times(points[^1].Level.Alpha);
    }

    private static void Want(SampleRequest request)
    {
        request.Noise.requires_grad = true;
        foreach (var (_, value) in request.Field.Inputs)
            value.requires_grad = true;
    }

    private static void Same(Tensor expected, Tensor actual) => Assert.True(expected.equal(actual).all().IsTrue(), $"{TestScalars.RelativeError(actual, expected):e2}");

    private static void Near(Tensor expected, Tensor actual) => Assert.InRange(TestScalars.RelativeError(actual, expected), 0, 1e-12);
}
