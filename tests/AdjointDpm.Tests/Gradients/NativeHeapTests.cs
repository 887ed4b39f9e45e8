using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>The native heap belongs to the whole process: nothing else may run meanwhile.</summary>
[CollectionDefinition(nameof(NativeHeapTests), DisableParallelization = true)]
[Collection(nameof(NativeHeapTests))]
public sealed class NativeHeapTests
{
    [Fact]
    public void Differentiate_ManyTimes_DoesNotGrowTheNativeHeap()
    {
        using var net = new TinyDenoiser();
        var probe = new MemoryProbe();
        for (var i = 0; i < 40; i++)
        {
            if (i == 10)
                probe = new();
            using var scope = NewDisposeScope();
            Sampling.Differentiate(net.Request(Sampler.Heun, "sequential", out _), x => x.sum(), cancellationToken: TestContext.Current.CancellationToken).Dispose();
        }

        probe.Look();
        Assert.InRange(probe.PeakBytes ?? 0, 0, 1_000_000);
    }
}
