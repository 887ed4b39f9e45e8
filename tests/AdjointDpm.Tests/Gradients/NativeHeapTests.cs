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
        => DoesNotGrow(request => Sampling.Differentiate(request, x => x.sum(), cancellationToken: TestContext.Current.CancellationToken).Dispose());

    [Fact]
    public void BackwardThroughTheSampler_ManyTimes_DoesNotGrowTheNativeHeap() => DoesNotGrow(request =>
    {
        request.Noise.requires_grad = true;
        using var drawn = DifferentiableSample.Draw(request, cancellationToken: TestContext.Current.CancellationToken);
        drawn.Backward(drawn.Sample.sum());
    });

    private static void DoesNotGrow(Action<SampleRequest> differentiate)
    {
        using var net = new TinyDenoiser();
        // The runtime's own compiler allocates on the same heap now and then; a leak shows in every round.
        var growth = Enumerable.Range(0, 6).Select(_ => Round()).ToArray();
        Assert.InRange(growth.Min(), 0, 20_000);

        long Round()
        {
            var probe = new MemoryProbe();
            for (var i = 0; i < 30; i++)
            {
                using var scope = NewDisposeScope();
                differentiate(net.Request(Sampler.Heun, "sequential", out _));
            }

            probe.Look();
            return probe.PeakBytes ?? 0;
        }
    }
}
