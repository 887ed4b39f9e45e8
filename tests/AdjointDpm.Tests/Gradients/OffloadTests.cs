using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>States in main memory until the way back comes to them. On the CPU, where main memory is the device's, this shows bits and counts, not bytes spared.</summary>
public sealed class OffloadTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static TheoryData<string> Samplers => [.. Sampler.Known.Select(s => s.Name)];

    [Theory]
    [MemberData(nameof(Samplers))]
    public void Offloaded_EverySampler_GivesTheBitsOfDiscrete(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), "none", out _);
        using var expected = Sampling.Differentiate(request, x => x.Squared().mean(), cancellationToken: Token);
        var before = DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
        var actual = Sampling.Differentiate(request, x => x.Squared().mean(), GradientMethod.Offloaded, Token);
        Assert.True(actual.Noise.equal(expected.Noise).all().IsTrue());
        Assert.All(expected.Inputs, i => Assert.True(actual.Inputs[i.Key].equal(i.Value).all().IsTrue(), i.Key));
        Assert.Equal((expected.Statistics.Vjps, expected.Statistics.ForwardNfe, expected.Statistics.BackwardNfe), (actual.Statistics.Vjps, actual.Statistics.ForwardNfe, actual.Statistics.BackwardNfe));
        // All states but the last, which is used at once.
        Assert.True(actual.Statistics.Offloaded >= actual.Statistics.Steps - 1, $"{actual.Statistics.Offloaded}");
        Assert.Equal(0, expected.Statistics.Offloaded);
        actual.Dispose();
        Assert.InRange(DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount - before, 0, 2L * (1 + expected.Inputs.Count));
    }

    /// <summary>What is left when the tensors in main memory are taken off: the device's share.</summary>
    [Theory]
    [InlineData("ddim")]
    [InlineData("dpm++2m")]
    [InlineData("heun")]
    public void Offloaded_AnyNumberOfSteps_LeavesAsManyTensorsOnTheDevice(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var few = Run(8, GradientMethod.Offloaded);
        var many = Run(64, GradientMethod.Offloaded);
        Assert.True(many.Offloaded - few.Offloaded >= 56, $"{many.Offloaded}, {few.Offloaded}");
        // The moment of the peak may differ by a tensor; the steps differ by 56.
        Assert.InRange(many.PeakLiveTensors - many.Offloaded - (few.PeakLiveTensors - few.Offloaded), -2, 2);
        // Not so where states stay.
        Assert.True(Run(64, GradientMethod.Discrete).PeakLiveTensors - Run(8, GradientMethod.Discrete).PeakLiveTensors >= 56);

        SolveStatistics Run(int steps, GradientMethod method)
        {
            var request = net.Request(Sampler.Named(sampler), "none", out _, steps: steps);
            using var result = Sampling.Differentiate(request, x => x.sum(), method, Token);
            return result.Statistics;
        }
    }

    [Fact]
    public void Offloaded_AdaptiveStepsAndKeptGradients_AreTheDiscreteOnes()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _);
        Same(request with { Sampler = new AdaptiveSampler(ButcherTableau.Dopri5, new() { Relative = 1e-3, Absolute = 1e-3 }) }, new Objective { OnSample = x => x.sum() });
        Same(request, new Objective { OnSample = x => x.sum(), KeepStateGradients = true });

        static void Same(SampleRequest request, Objective objective)
        {
            using var expected = Sampling.Differentiate(request, objective, GradientMethod.Discrete, Token);
            using var actual = Sampling.Differentiate(request, objective, GradientMethod.Offloaded, Token);
            Assert.True(actual.Noise.equal(expected.Noise).all().IsTrue());
            Assert.All(expected.States.Zip(actual.States), p => Assert.True(p.First.equal(p.Second).all().IsTrue()));
        }
    }
}
