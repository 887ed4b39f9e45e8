using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Inputs beyond weights and one conditioning: guidance scales, what differs from step to step, weights by name.</summary>
public sealed class InputTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("ddim")]
    [InlineData("heun")]
    [InlineData("dpm++2m")]
    [InlineData("sde-dpm++2m")]
    public void GuidanceScale_Tensor_HasAnExactGradient(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Named(sampler), "sequential", out var c);
        Tensor empty = request.Field.Inputs[0].Value, w = tensor(2.5, ScalarType.Float64), each = tensor([1.5, 3.0], ScalarType.Float64).view(2, 1, 1, 1);
        using var constant = Sampling.Differentiate(request, Loss, cancellationToken: Token);
        var one = request with { Field = NoiseField.Guided((x, t) => net.Predict(x, t, empty), (x, t) => net.Predict(x, t, c), w).With("empty", empty).With("conditioning", c).With("net", net).With("w", w) };
        using var same = Sampling.Differentiate(one, Loss, cancellationToken: Token);
        Assert.InRange(TestScalars.RelativeError(same.Noise, constant.Noise), 0, 1e-13);
        Assert.All(constant.Inputs, i => Assert.InRange(TestScalars.RelativeError(same.Inputs[i.Key], i.Value), 0, 1e-13));
        Check(one, "w");
        Check(request with { Field = NoiseField.Guided((x, t) => net.Predict(x, t, empty), (x, t) => net.Predict(x, t, c), each).With("net", net).With("each", each) }, "each");
    }

    // Every evaluation of step n reads the n-th tensor, so the gradient is per step; the tensors' sum is the gradient of one held throughout.
    [Theory]
    [InlineData("ddim")]
    [InlineData("rk4")]
    [InlineData("unipc3")]
    public void Steps_ConditioningScalesAndControls_HaveGradientsOfTheirOwn(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Named(sampler), "sequential", out var c);
        var empty = request.Field.Inputs[0].Value;
        Tensor[] conditionings = [.. Enumerable.Range(0, 6).Select(_ => c.clone())];
        Tensor scales = full(6, 2.5, ScalarType.Float64), controls = zeros([6, .. TinyDenoiser.Shape], ScalarType.Float64);
        using var held = Sampling.Differentiate(request, Loss, cancellationToken: Token);
        var own = request with
        {
            Field = NoiseField.Guided(
                (x, t, n) => net.Predict(x, t, empty).add(controls[n], TestScalars.One),
                (x, t, n) => net.Predict(x, t, conditionings[n]).add(controls[n], TestScalars.One),
                n => scales[n]).With("empty", empty).With("c", conditionings).With("net", net).With("w", scales).With("u", controls),
        };
        using var result = Sampling.Differentiate(own, Loss, GradientMethod.Checkpointed(2), Token);
        using var unrolled = Sampling.Differentiate(own, Loss, GradientMethod.StoreAll, Token);
        Assert.All(unrolled.Inputs, i => Assert.InRange(TestScalars.RelativeError(result.Inputs[i.Key], i.Value), 0, 1e-12));
        Assert.Equal(["empty", "c[0]", "c[1]", "c[2]", "c[3]", "c[4]", "c[5]"], result.Inputs.Keys.Take(7));
        Assert.InRange(TestScalars.RelativeError(stack(Enumerable.Range(0, 6).Select(n => result.Inputs[$"c[{n}]"])).sum(dim: 0), held.Inputs["conditioning"]), 0, 1e-12);
        Check(own, "w");
        Check(own, "u");
        Check(own, "c[4]");
        Assert.All(Enumerable.Range(0, 6), n => Assert.True(result.Inputs["u"][n].norm().Number() > 0));
    }

    [Fact]
    public void Weights_ByPattern_OthersAreHeldConstant()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.ModerateRequest(Sampler.Ddim, "none", out var c);
        using var all = Sampling.Differentiate(request, Loss, cancellationToken: Token);
        var field = NoiseField.From((x, t) => net.Predict(x, t, c));
        using var some = Sampling.Differentiate(request with { Field = field.With("net", net, "net.*i*t*") }, Loss, cancellationToken: Token);
        Assert.Equal(["net.first", "net.condition"], some.Inputs.Keys);
        Assert.All(some.Inputs, i => Assert.True(i.Value.equal(all.Inputs[i.Key]).all().IsTrue()));
        Assert.Contains("'net.first'", Assert.Throws<ArgumentException>(() => field.With("net", net, "unet.*")).Message, StringComparison.Ordinal);
    }

    // Factors of low rank: the chain rule from the folded weights on, against differences that fold moved factors and sample again.
    [Theory]
    [InlineData("ddim")]
    [InlineData("dpm++2m")]
    [InlineData("rk4")]
    public void Lora_FactorsOfChosenWeights_HaveExactGradients(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = nn.Sequential(("first", nn.Conv2d(2, 4, 3, padding: 1L)), ("act", nn.SiLU()), ("second", nn.Conv2d(4, 2, 3, padding: 1L)));
        net.to(ScalarType.Float64);
        using var frozen = no_grad();
        foreach (var ((_, weight), n) in net.named_parameters().Select((p, n) => (p, n)))
            weight.copy_(CounterNoise.Normal(new(41, (uint)n), [1, weight.numel()], ScalarType.Float64).view(weight.shape));
        using var lora = new Lora(net, name => name == "second.weight", rank: 2, alpha: 3, seed: 4);
        foreach (var ((_, factor), n) in lora.Parameters.Select((p, n) => (p, n)))
            factor.copy_(CounterNoise.Normal(new(43, (uint)n), factor.shape, ScalarType.Float64));
        lora.Fold();
        using var template = new TinyDenoiser();
        var request = template.ModerateRequest(Sampler.Named(sampler), "none", out _) with { Field = NoiseField.From((x, _) => net.call(x)).Freeze(net).With("second.weight", lora.Weights[0]) };
        using var result = Sampling.Differentiate(request, Loss, cancellationToken: Token);
        Assert.Equal(["second.weight"], result.Inputs.Keys);
        var gradients = lora.Gradients([result.Inputs["second.weight"]]);
        foreach (var ((_, factor), gradient) in lora.Parameters.Zip(gradients))
        {
            var (before, direction) = (factor.clone(), CounterNoise.Normal(new(44), factor.shape, ScalarType.Float64));
            double At(double by)
            {
                using var step = by.ToScalar();
                factor.copy_(before.add(direction, step));
                lora.Fold();
                using var sample = Sampling.Sample(request, Token);
                return Loss(sample.Sample).Number();
            }

            double Difference(double h) => (At(h) - At(-h)) / (2 * h);
            var expected = ((4 * Difference(5e-5)) - Difference(1e-4)) / 3;
            factor.copy_(before);
            lora.Fold();
            Assert.Equal(expected, gradient.mul(direction).sum().Number(), 1e-7 * gradient.norm().Number() * direction.norm().Number());
            Assert.True(gradient.norm().Number() > 1e-3);
        }
    }

    private static void Check(SampleRequest request, string name)
    {
        using var result = Sampling.Differentiate(request, Loss, cancellationToken: Token);
        var gradient = result.Inputs[name];
        var direction = CounterNoise.Normal(new(77), gradient.numel() == 1 ? [1] : gradient.shape, ScalarType.Float64).view(gradient.shape);
        var difference = GradientCheck.FiniteDifference(request, Loss, name, direction, cancellationToken: Token);
        Assert.Equal(difference, gradient.mul(direction).sum().Number(), 1e-6 * Math.Max(1, gradient.norm().Number()));
        Assert.True(gradient.norm().Number() > 1e-4, name);
    }

    private static Tensor Loss(Tensor x) => x.Squared().mean().log();
}
