using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using AdjointDpm.Tests.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Autograd calls back from native code, where what the collector frees too early is a crash.</summary>
[Collection(nameof(Alone))]
public sealed class DifferentiableSampleCollectionTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void CollectedAllTheTime_GivesTheSameGradient(bool scoped)
    {
        using var outer = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Heun, "sequential", out _, steps: 3);
        request.Noise.requires_grad = true;
        using var expected = Sampling.Differentiate(request, x => x.mul(x).mean(), cancellationToken: TestContext.Current.CancellationToken);
        using var collector = new BusyCollector();
        for (var round = 0; round < 100; round++)
        {
            using var scope = scoped ? NewDisposeScope() : null;
            foreach (var leaf in net.parameters().Append(request.Noise))
                leaf.grad = null;
            using var drawn = DifferentiableSample.Draw(request, cancellationToken: TestContext.Current.CancellationToken);
            drawn.Backward(drawn.Sample.mul(drawn.Sample).mean());
            Assert.True(expected.Noise.Equals(request.Noise.grad!), $"round {round}");
            foreach (var (name, parameter) in net.named_parameters())
                Assert.True(expected.Inputs["net." + name].Equals(parameter.grad!), $"round {round}: {name}");
        }
    }
}
