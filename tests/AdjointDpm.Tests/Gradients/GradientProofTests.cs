using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

public sealed class GradientProofTests
{
    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static Tensor Loss(Tensor x) => x.mul(x).mean();

    [Theory]
    [InlineData("ddim")]
    [InlineData("rk4")]
    [InlineData("dpm++3m")]
    [InlineData("unipc3")]
    [InlineData("sde-dpm++2m")]
    public void ExactMethods_Pass_ForEveryGroupStateAndDifference(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), "sequential", out _, steps: 5);
        foreach (var method in new[] { GradientMethod.Discrete, GradientMethod.Checkpointed(2), GradientMethod.StoreAll })
        {
            var proof = GradientProof.Run(request, Loss, method, new() { Exactness = 1e-12, DifferenceTolerance = 1e-6 }, Cancel);
            Assert.True(proof.Passed, string.Join('\n', proof.Findings));
            Assert.True(proof.Exact);
            Assert.Equal(["x_T", "conditioning", "net.first", "net.second", "net.time", "net.condition"], proof.Groups.Select(g => g.Name).Where(name => name != "empty"));
            Assert.Equal(request.Grid.Points.Count, proof.States.Length);
            Assert.Equal(proof.Groups.Length, proof.Differences.Length);
            Assert.True(proof.DifferenceNfe >= 6 * proof.Differences.Length * 5);
        }
    }

    [Fact]
    public void Reversible_Passes()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var proof = GradientProof.Run(net.Request(new ReversibleSampler(ButcherTableau.Midpoint), "none", out _, steps: 5), Loss, GradientMethod.Reversible, new() { DifferenceByGroup = false }, Cancel);
        Assert.True(proof.Passed, string.Join('\n', proof.Findings));
        Assert.Equal(["all"], proof.Differences.Select(d => d.Name));
    }

    [Fact]
    public void Adaptive_Passes_WithItsStepsHeldInTheDifferences()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var proof = GradientProof.Run(net.Request(new AdaptiveSampler(ButcherTableau.Bosh3, new StepControl { Relative = 1e-2, Absolute = 1e-2 }), "none", out _, steps: 2), Loss, GradientMethod.Discrete, new() { Exactness = 1e-12, DifferenceTolerance = 1e-6 }, Cancel);
        Assert.True(proof.Passed, string.Join('\n', proof.Findings));
        Assert.All(proof.Differences, d => Assert.InRange(d.RelativeError, 0, 1e-6));
    }

    [Fact]
    public void Continuous_FewSteps_FailsByItsNumbers_AndPassesWhenTheyAreAccepted()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _, steps: 4);
        var proof = GradientProof.Run(request, Loss, GradientMethod.Continuous(), cancellationToken: Cancel);
        Assert.False(proof.Passed);
        Assert.False(proof.Exact);
        Assert.Contains("to the unrolled gradient; at least 0.99", proof.Findings[0], StringComparison.Ordinal);
        var accepted = GradientProof.Run(request, Loss, GradientMethod.Continuous(), new() { MinCosine = -1, MaxNormError = 100 }, Cancel);
        Assert.True(accepted.Passed, string.Join('\n', accepted.Findings));
    }

    [Fact]
    public void Truncated_IsToldStepByStep()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var proof = GradientProof.Run(net.Request(Sampler.Ddim, "none", out _, steps: 4), Loss, GradientMethod.Truncated(2), cancellationToken: Cancel);
        Assert.Equal([false, false, true, true, true], proof.States.Select(s => s.RelativeError < 1e-12));
        Assert.Equal(0, proof.Groups[0].NormRatio);
    }

    [Fact]
    public void LossThatHoldsPartOfTheSampleConstant_IsRefutedByDifferences()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var proof = GradientProof.Run(net.Request(Sampler.Ddim, "none", out _, steps: 3), x => x.mul(x.detach()).mean(), cancellationToken: Cancel);
        Assert.All(proof.Groups, g => Assert.True(g.RelativeError < 1e-12));
        Assert.Contains("finite differences say", proof.Findings[0], StringComparison.Ordinal);
        // Half of the derivative is missing.
        Assert.All(proof.Differences, d => Assert.Equal(2, d.FiniteDifference / d.Unrolled, 1e-5));
    }

    [Theory]
    [InlineData(0.5)]
    [InlineData(1e-3)]
    public void LossWithKinksNearTheSample_IsProvenBySmallerSteps(double height)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _, steps: 3) with { Field = NoiseField.From((x, _) => x.mul(0.1)) };
        // The sample is in proportion to x_T, so that a step of h moves its numbers by about h of their size.
        var sample = Sampling.Sample(request, Cancel).Sample;
        var kinks = sample.add(sample.norm().mul(3e-7 / sample.numel()));
        var proof = GradientProof.Run(request, x => x.sub(x.sub(kinks).abs().mul(height)).mean(), cancellationToken: Cancel);
        Assert.True(proof.Passed, string.Join('\n', proof.Findings));
        // Half widths of 1e-6 and more lie across them.
        Assert.InRange(proof.Differences[0].Step, 0, 2e-7);
        Assert.InRange(proof.Differences[0].RelativeError, 0, 1e-5);
    }

    [Fact]
    public void Inputs_AreAsTheyWere_AlsoWhenCancelled()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _, steps: 3);
        var before = request.Field.Inputs.Select(i => i.Value.clone()).Append(request.Noise.clone()).ToList();
        using var stop = new CancellationTokenSource();
        var calls = 0;
        Assert.ThrowsAny<OperationCanceledException>(() => GradientProof.Run(request, x =>
        {
            // Two gradients, then the differences.
            if (++calls == 5)
                stop.Cancel();
            return Loss(x);
        }, cancellationToken: stop.Token));
        Assert.All(request.Field.Inputs.Select(i => i.Value).Append(request.Noise).Zip(before), pair => Assert.True(pair.First.Equals(pair.Second)));
    }

    [Fact]
    public void Measure_TellsWhatAnEstimateIsWorth_AndDoesNotJudgeIt()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _, steps: 4);
        using var exact = Sampling.Differentiate(request, Loss, GradientMethod.Discrete, Cancel);
        var doubled = exact.Inputs.ToDictionary(input => input.Key, input => input.Value * -2);
        var proof = GradientProof.Measure(request, Loss, "doubled", new(null, doubled, exact.Statistics), new() { DifferenceByGroup = false }, Cancel);
        Assert.True(proof is { IsEstimate: true, Exact: false, Passed: true, Method: "doubled" }, string.Join('\n', proof.Findings));
        Assert.DoesNotContain("x_T", proof.Groups.Select(group => group.Name));
        Assert.All(proof.Groups, group => Assert.Equal((-1, 2), (Math.Round(group.Cosine, 9), Math.Round(group.NormRatio, 9))));
        var difference = Assert.Single(proof.Differences);
        Assert.Equal(-2 * difference.Unrolled, difference.Configured, 1e-9 * Math.Abs(difference.Unrolled));

        // With x_T, where there is one; and what cannot be compared is refused.
        Assert.Equal("x_T", GradientProof.Measure(request, Loss, "whole", new(exact.Noise, exact.Inputs, exact.Statistics), cancellationToken: Cancel).Groups[0].Name);
        Assert.Throws<ArgumentException>(() => GradientProof.Measure(request with { Field = NoiseField.From((x, _) => x) }, Loss, "nothing", new(null, new Dictionary<string, Tensor>(), exact.Statistics), cancellationToken: Cancel));
    }
}
