using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

public sealed class DiscreteAdjointTests
{
    public static TheoryData<string, string> Cases()
    {
        var cases = new TheoryData<string, string>();
        foreach (var sampler in Sampler.Known)
        {
            foreach (var guidance in new[] { "none", "sequential", "batched" })
                cases.Add(sampler.Name, guidance);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Discrete_EverySamplerAndInput_EqualsAutomaticDifferentiation(string sampler, string guidance)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), guidance, out _);
        using var expected = Sampling.Differentiate(request, Loss, GradientMethod.StoreAll, TestContext.Current.CancellationToken);
        using var actual = Sampling.Differentiate(request, Loss, GradientMethod.Discrete, TestContext.Current.CancellationToken);

        Assert.Equal(expected.Loss, actual.Loss, 1e-14);
        Assert.InRange(TestScalars.RelativeError(actual.Sample, expected.Sample), 0, 1e-14);
        Assert.InRange(TestScalars.RelativeError(actual.Noise, expected.Noise), 0, 1e-12);
        Assert.Equal(expected.Inputs.Keys, actual.Inputs.Keys);
        foreach (var (name, gradient) in expected.Inputs)
        {
            Assert.True(gradient.norm().Number() > 1e-3, $"{name} has a trivial gradient");
            Assert.InRange(TestScalars.RelativeError(actual.Inputs[name], gradient), 0, 1e-12);
        }
    }

    private static Tensor Loss(Tensor sample) => sample.sin().Squared().mean();
}
