using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

public sealed class GradientCheckTests
{
    public static TheoryData<string> Names() => [.. Sampler.Known.Select(s => s.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void FiniteDifference_EverySamplerAndInput_AgreesWithTheDiscreteAdjoint(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), "sequential", out var c, steps: 4);
        static Tensor Loss(Tensor x) => x.Squared().mean();
        using var result = Sampling.Differentiate(request, Loss, cancellationToken: TestContext.Current.CancellationToken);
        foreach (var (name, gradient) in result.Inputs.Select(i => (i.Key, i.Value)).Prepend((GradientCheck.NoiseName, result.Noise)))
        {
            var direction = CounterNoise.Normal(new(77), gradient.shape, ScalarType.Float64);
            var expected = gradient.mul(direction).sum().Number();
            var actual = GradientCheck.FiniteDifference(request, Loss, name, direction, cancellationToken: TestContext.Current.CancellationToken);
            Assert.True(Math.Abs(actual - expected) < 1e-6 * gradient.norm().Number() * direction.norm().Number(), $"{name}: gradient {expected:r}, difference {actual:r}");
        }
    }

    [Fact]
    public void Run_DiscreteAgainstUnrolled_AgreesAndContinuousDoesNot()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _);
        var discrete = GradientCheck.Run(request, x => x.Squared().mean(), GradientMethod.Discrete, cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal(["x_T", "conditioning", "net.first", "net.second", "net.time", "net.condition"], discrete.Select(a => a.Name));
        Assert.All(discrete, a => Assert.True(Math.Abs(a.Cosine - 1) < 1e-12 && Math.Abs(a.NormRatio - 1) < 1e-12 && a.RelativeError < 1e-12));
        var continuous = GradientCheck.Run(request, x => x.Squared().mean(), GradientMethod.Continuous(), cancellationToken: TestContext.Current.CancellationToken);
        Assert.All(continuous, a => Assert.True(a.RelativeError > 1e-2));
    }

    [Fact]
    public void FiniteDifference_UnknownName_ListsTheKnownOnes()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out var c);
        Assert.Contains("x_T, conditioning", Assert.Throws<ArgumentException>(() => GradientCheck.FiniteDifference(request, x => x.sum(), "prompt", c, cancellationToken: TestContext.Current.CancellationToken)).Message, StringComparison.Ordinal);
    }
}
