using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Every sampler with every kind of network, guided or not, on schedules with and without ends of pure noise: exact gradients throughout.</summary>
public sealed class PredictionGradientTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static readonly Dictionary<string, Sampler> All = Sampler.Known.Concat(
    [
        Sampler.DdimWithNoise(0.5), Sampler.EulerMaruyamaWith(0.5), new UniPc(3) { LowerOrderFinal = false }, new EdmHeun { Churn = 0.5 },
        new ReversibleSampler(ButcherTableau.Midpoint), new ReversibleSampler(ButcherTableau.Rk4), new AdaptiveSampler(ButcherTableau.Dopri5, new() { Relative = 1e-2, Absolute = 1e-2 }),
    ]).Select((s, i) => (Sampler: s, Name: i < Sampler.Known.Count ? s.Name : $"{s.Name}*")).ToDictionary(s => s.Name, s => s.Sampler);

    public static TheoryData<string, Prediction, string> Cases()
    {
        var cases = new TheoryData<string, Prediction, string>();
        foreach (var sampler in All.Keys)
        {
            foreach (var prediction in Enum.GetValues<Prediction>())
            {
                foreach (var guidance in new[] { "none", "sequential", "batched" })
                    cases.Add(sampler, prediction, guidance);
            }
        }

        return cases;
    }

    public static TheoryData<string> Samplers() => [.. Sampler.Known.Select(s => s.Name)];

    // Every exact method against automatic differentiation; among themselves, and run twice, to the bit.
    [Theory]
    [MemberData(nameof(Cases))]
    public void EveryExactMethod_EveryPrediction_EqualsAutomaticDifferentiation(string sampler, Prediction prediction, string guidance)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = Request(net, sampler, prediction, guidance);
        var discrete = Agree(request);
        foreach (var method in new[] { GradientMethod.Discrete, GradientMethod.Checkpointed(2), GradientMethod.Truncated(int.MaxValue) })
        {
            using var again = Sampling.Differentiate(request, Loss, method, Token);
            Assert.True(Same(again, discrete), method.Name);
        }

        if (request.Sampler is ReversibleSampler)
        {
            using var undone = Sampling.Differentiate(request, Loss, GradientMethod.Reversible, Token);
            Assert.All(GradientCheck.Compare(undone, discrete), a => Assert.True(a.RelativeError <= 1e-12, $"{a}"));
        }
    }

    // x_T, conditioning and weights, each along a random direction.
    [Theory]
    [MemberData(nameof(Cases))]
    public void Discrete_EveryPrediction_EqualsFiniteDifferences(string sampler, Prediction prediction, string guidance)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        // An adaptive sampler's steps are held constant, as its gradient holds them.
        var request = Sampling.HoldSteps(Request(net, sampler, prediction, guidance), Token);
        using var gradients = Sampling.Differentiate(request, Loss, cancellationToken: Token);
        using var constant = no_grad();
        foreach (var part in GradientParts.Of(request, name => name.StartsWith("net.", StringComparison.Ordinal) ? "weights" : "conditioning"))
        {
            var gradient = part.Vector(gradients);
            var direction = CounterNoise.Normal(new(21), [1, gradient.numel()], ScalarType.Float64).reshape(-1);
            // Richardson: the error of second order cancels between two widths; of those, the one that its neighbour agrees with best.
            double[] widths = [1e-4, 2e-5, 4e-6, 8e-7];
            var differences = widths.Select(h => part.Difference(request, Loss, direction, h, Token)).ToArray();
            var estimates = differences.Zip(differences.Skip(1), (wide, narrow) => ((25 * narrow) - wide) / 24).ToArray();
            var expected = Math.Abs(estimates[1] - estimates[0]) < Math.Abs(estimates[2] - estimates[1]) ? estimates[1] : estimates[2];
            var error = Math.Abs(gradient.dot(direction).Number() - expected) / (gradient.norm().Number() * direction.norm().Number());
            Assert.True(error <= 1e-7, $"{part.Name}: {gradient.dot(direction).Number():r}, difference {expected:r}, error {error:e1}");
        }
    }

    // From rho = infinity to rho = 0, both exactly.
    [Theory]
    [MemberData(nameof(Samplers))]
    public void Discrete_FlowMatchingFromPureNoise_EqualsAutomaticDifferentiation(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), "sequential", out _);
        var flow = new FlowMatching(1000);
        var grid = TimeGrid.Flow(flow, 5, shift: 3);
        Assert.Equal((double.PositiveInfinity, 0), (grid.Start.Rho, grid.End.Rho));
        Agree(request with { Field = request.Field with { Prediction = Prediction.Flow }, Grid = grid });
    }

    // One network of noise, told as if it predicted something else: the conversion is undone, so nothing may change.
    [Theory]
    [InlineData("ddim")]
    [InlineData("dpm++2m")]
    [InlineData("unipc3")]
    [InlineData("flow-heun")]
    [InlineData("edm")]
    public void Discrete_OneNetworkInOtherPredictions_HasTheSameGradients(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), "none", out var c) with { Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 6, 0.3, 1.5) };
        using var expected = Sampling.Differentiate(request, Loss, cancellationToken: Token);
        foreach (var prediction in Enum.GetValues<Prediction>())
        {
            var field = NoiseField.From((x, t) =>
            {
                var (ofX, ofNoise) = Prediction.Epsilon.To(prediction, request.Grid.Schedule.At(t));
                using Scalar wx = ofX.ToScalar(), wn = ofNoise.ToScalar();
                return x.mul(wx).add(net.Predict(x, t, c), wn);
            });
            using var actual = Sampling.Differentiate(request with { Field = (field with { Prediction = prediction }).With("conditioning", c).With("net", net) }, Loss, cancellationToken: Token);
            Assert.All(GradientCheck.Compare(actual, expected), a => Assert.InRange(a.RelativeError, 0, 1e-10));
        }
    }

    // DDIM is one map whatever the coordinates, and so is its exact gradient; the continuous adjoint's is not.
    [Fact]
    public void Euler_InOtherCoordinates_HasTheSameDiscreteGradientAndAnotherContinuousOne()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _) with { Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 6, 0.1, 8) };
        using var discrete = Sampling.Differentiate(request, Loss, cancellationToken: Token);
        using var continuous = Sampling.Differentiate(request, Loss, GradientMethod.Continuous(), Token);
        foreach (var coordinates in new[] { Coordinates.Data, Coordinates.Flow })
        {
            var other = request with { Sampler = new RungeKutta("euler", ButcherTableau.Euler, coordinates) };
            using var exact = Sampling.Differentiate(other, Loss, cancellationToken: Token);
            using var approximate = Sampling.Differentiate(other, Loss, GradientMethod.Continuous(), Token);
            Assert.All(GradientCheck.Compare(exact, discrete), a => Assert.InRange(a.RelativeError, 0, 1e-11));
            Assert.InRange(GradientCheck.Compare(approximate, continuous)[0].RelativeError, 1e-3, double.PositiveInfinity);
        }
    }

    [Fact]
    public void Continuous_FlowFromPureNoise_ApproachesTheDiscreteGradient()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.FlowHeun, "none", out _);
        int[] steps = [20, 40];
        var gaps = steps.Select(n => GradientCheck.Run(request with { Field = request.Field with { Prediction = Prediction.Flow }, Grid = TimeGrid.Flow(new(1000), n) }, Loss, GradientMethod.Continuous(), GradientMethod.Discrete, Token)[0].RelativeError).ToArray();
        Assert.InRange(Math.Log2(gaps[0] / gaps[1]), 1.85, 3.15);
    }

    [Fact]
    public void Evaluate_PredictionThatDoesNotTell_SaysWhatToUse()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Ddim, "none", out _) with { Grid = TimeGrid.Flow(new(1000), 5) };
        Assert.Contains("Velocity, Flow or Sample", Assert.Throws<InvalidOperationException>(() => Sampling.Sample(request, Token)).Message, StringComparison.Ordinal);
    }

    private static SampleRequest Request(TinyDenoiser net, string sampler, Prediction prediction, string guidance)
    {
        var request = net.Request(All[sampler], guidance, out _);
        return request with { Field = request.Field with { Prediction = prediction }, Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 4, 0.3, 1.5), Key = new(9) };
    }

    private static SampleGradients Agree(SampleRequest request)
    {
        using var expected = Sampling.Differentiate(request, Loss, GradientMethod.StoreAll, Token);
        var actual = Sampling.Differentiate(request, Loss, GradientMethod.Discrete, Token);
        Assert.InRange(TestScalars.RelativeError(actual.Sample, expected.Sample), 0, 1e-14);
        Assert.All(GradientCheck.Compare(actual, expected), a => Assert.True(a.RelativeError <= 1e-12, $"{a}"));
        Assert.All(expected.Inputs.Values.Append(expected.Noise), g => Assert.NotEqual(0, g.norm().Number()));
        return actual;
    }

    private static bool Same(SampleGradients a, SampleGradients b)
        => a.Loss.Equals(b.Loss) && a.Sample.equal(b.Sample).all().IsTrue() && a.Noise.equal(b.Noise).all().IsTrue() && a.Inputs.All(i => i.Value.equal(b.Inputs[i.Key]).all().IsTrue());

    private static Tensor Loss(Tensor sample) => sample.sin().Squared().mean();
}
