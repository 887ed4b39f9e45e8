using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Every sampler with every kind of network, guided or not, on schedules with and without ends of pure noise: exact gradients throughout.</summary>
public sealed class PredictionGradientTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public static TheoryData<string, Prediction, string> Cases()
    {
        var cases = new TheoryData<string, Prediction, string>();
        foreach (var sampler in Sampler.Known)
        {
            foreach (var prediction in Enum.GetValues<Prediction>())
            {
                foreach (var guidance in new[] { "none", "sequential", "batched" })
                    cases.Add(sampler.Name, prediction, guidance);
            }
        }

        return cases;
    }

    public static TheoryData<string> Samplers() => [.. Sampler.Known.Select(s => s.Name)];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Discrete_EveryPrediction_EqualsAutomaticDifferentiation(string sampler, Prediction prediction, string guidance)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), guidance, out _);
        Agree(request with { Field = request.Field with { Prediction = prediction }, Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 4, 0.1, 8) });
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

    [Theory]
    [MemberData(nameof(Samplers))]
    public void Discrete_EverySampler_EqualsFiniteDifferences(string sampler)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(Sampler.Named(sampler), "sequential", out _);
        request = request with { Field = request.Field with { Prediction = Prediction.Velocity }, Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 4, 0.3, 1.5) };
        using var gradients = Sampling.Differentiate(request, Loss, cancellationToken: Token);
        foreach (var (name, gradient) in gradients.Inputs.Append(new(GradientCheck.NoiseName, gradients.Noise)))
        {
            var direction = CounterNoise.Normal(new(21), gradient.shape, ScalarType.Float64);
            // Richardson: the error of second order cancels between two widths.
            double wide = Difference(1e-4), narrow = Difference(5e-5), expected = ((4 * narrow) - wide) / 3;
            Assert.True(Math.Abs(gradient.mul(direction).sum().ToDouble() - expected) <= 1e-7 * gradient.norm().ToDouble() * direction.norm().ToDouble(), $"{name}: {gradient.mul(direction).sum().ToDouble():r}, difference {expected:r}");

            double Difference(double step) => GradientCheck.FiniteDifference(request, Loss, name, direction, step, Token);
        }
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

    private static void Agree(SampleRequest request)
    {
        using var expected = Sampling.Differentiate(request, Loss, GradientMethod.StoreAll, Token);
        using var actual = Sampling.Differentiate(request, Loss, GradientMethod.Discrete, Token);
        Assert.InRange(TestScalars.RelativeError(actual.Sample, expected.Sample), 0, 1e-14);
        Assert.All(GradientCheck.Compare(actual, expected), a => Assert.True(a.RelativeError <= 1e-12, $"{a}"));
        Assert.All(expected.Inputs.Values.Append(expected.Noise), g => Assert.NotEqual(0, g.norm().ToDouble()));
    }

    private static Tensor Loss(Tensor sample) => sample.sin().square().mean();
}
