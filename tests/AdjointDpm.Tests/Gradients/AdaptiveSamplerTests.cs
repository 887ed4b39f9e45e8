using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

public sealed class AdaptiveSamplerTests
{
    private static readonly StepControl Rough = new() { Relative = 1e-3, Absolute = 1e-3 };

    public static TheoryData<string, IntegrationVariable> Cases()
    {
        var cases = new TheoryData<string, IntegrationVariable>();
        foreach (var name in Pairs.Keys)
        {
            foreach (var variable in Enum.GetValues<IntegrationVariable>())
                cases.Add(name, variable);
        }

        return cases;
    }

    private static Dictionary<string, ButcherTableau> Pairs { get; } = new[] { ButcherTableau.Bosh3, ButcherTableau.Dopri5, ButcherTableau.Tsit5, ButcherTableau.Dopri8 }.ToDictionary(t => t.Name);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Discrete_WithTheAcceptedStepsHeld_EqualsAutomaticDifferentiation(string pair, IntegrationVariable variable)
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var sampler = new AdaptiveSampler(Pairs[pair], Rough, variable);
        var request = net.Request(sampler, "sequential", out _, steps: 1);
        using var sample = Sampling.Sample(request, TestContext.Current.CancellationToken);
        using var expected = Sampling.Differentiate(request, Loss, GradientMethod.StoreAll, TestContext.Current.CancellationToken);
        using var actual = Sampling.Differentiate(request, Loss, GradientMethod.Discrete, TestContext.Current.CancellationToken);

        Assert.Equal(0, TestScalars.RelativeError(actual.Sample, sample.Sample));
        Assert.InRange(TestScalars.RelativeError(actual.Sample, expected.Sample), 0, 1e-14);
        Assert.InRange(TestScalars.RelativeError(actual.Noise, expected.Noise), 0, 1e-12);
        foreach (var (name, gradient) in expected.Inputs)
            Assert.InRange(TestScalars.RelativeError(actual.Inputs[name], gradient), 0, 1e-12);

        using var checkpointed = Sampling.Differentiate(request, Loss, GradientMethod.Checkpointed(3), TestContext.Current.CancellationToken);
        Assert.InRange(TestScalars.RelativeError(checkpointed.Noise, expected.Noise), 0, 1e-12);
        Assert.All(expected.Inputs, i => Assert.InRange(TestScalars.RelativeError(checkpointed.Inputs[i.Key], i.Value), 0, 1e-12));

        // The way forward costs the search only; the way back one evaluation for each that the result depends on.
        var (accepted, rejected, fsal, stages) = (actual.Statistics.Steps, actual.Statistics.Rejected, Pairs[pair].FirstSameAsLast, Pairs[pair].B.Length);
        Assert.Equal(fsal ? 2 + ((stages - 1) * (accepted + rejected)) : 1 + (stages * accepted) + ((stages - 1) * rejected), actual.Statistics.ForwardNfe);
        Assert.Equal(sample.Statistics.ForwardNfe, actual.Statistics.ForwardNfe);
        Assert.Equal(Pairs[pair].SolutionStages * accepted, actual.Statistics.BackwardNfe);
        Assert.Equal(0, actual.Statistics.Recomputed);
        Assert.Equal(accepted, actual.Grid.Steps);
        Assert.Equal(Pairs[pair].SolutionStages * accepted, expected.Statistics.ForwardNfe);
        Assert.Equal(request.Grid.End, actual.Grid.End);
    }

    [Theory]
    [InlineData(IntegrationVariable.LogRho)]
    [InlineData(IntegrationVariable.Rho)]
    public void Mixture_TightTolerance_MeetsClosedFormValueAndGradients(IntegrationVariable variable)
    {
        using var scope = NewDisposeScope();
        var means = cat([full(1, -1.0, ScalarType.Float64), full(1, 1.0, ScalarType.Float64)], 0);
        var request = ClosedFormTests.MixtureRequest(new AdaptiveSampler(ButcherTableau.Dopri8, new() { Relative = 1e-10, Absolute = 1e-10 }, variable), 1, means);
        using var result = Sampling.Differentiate(request, x => x.sum(), cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal(ClosedFormTests.MixtureSample, result.Sample.Number(), 1e-8);
        Assert.Equal(0.00362775451874, result.Noise.Number(), 1e-9);
        Assert.Equal(0.997456766532, result.Inputs["means"][1].Number(), 1e-8);
    }

    // Steps in proportion to the noise level need about half the evaluations that steps in rho need.
    [Fact]
    public void LogRho_AtRoughTolerance_NeedsFewerEvaluationsAndRejectsNone()
    {
        using var scope = NewDisposeScope();
        var means = cat([full(1, -1.0, ScalarType.Float64), full(1, 1.0, ScalarType.Float64)], 0);
        var (log, plain) = (Cost(IntegrationVariable.LogRho), Cost(IntegrationVariable.Rho));
        Assert.True(log.ForwardNfe < 0.6 * plain.ForwardNfe, $"{log.ForwardNfe} against {plain.ForwardNfe}");
        Assert.Equal(0, log.Rejected);
        Assert.True(plain.Rejected > 0);

        SolveStatistics Cost(IntegrationVariable variable)
        {
            using var result = Sampling.Sample(ClosedFormTests.MixtureRequest(new AdaptiveSampler(ButcherTableau.Dopri5, Rough, variable), 1, means), TestContext.Current.CancellationToken);
            return result.Statistics;
        }
    }

    [Fact]
    public void Grid_OfSeveralPointsEndingWithoutNoise_IsLandedOn()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var schedule = DiscreteVp.StableDiffusion;
        var request = net.Request(new AdaptiveSampler(ButcherTableau.Dopri5, Rough), "none", out _) with { Grid = new(schedule, schedule.RhoMax, 2.0, 0.5, schedule.RhoMin, 0) };
        using var expected = Sampling.Differentiate(request, Loss, GradientMethod.StoreAll, TestContext.Current.CancellationToken);
        using var actual = Sampling.Differentiate(request, Loss, GradientMethod.Discrete, TestContext.Current.CancellationToken);
        Assert.All(request.Grid.Points, p => Assert.Contains(p, actual.Grid.Points));
        Assert.True(actual.Grid.Steps > request.Grid.Steps);
        Assert.InRange(TestScalars.RelativeError(actual.Noise, expected.Noise), 0, 1e-12);
        Assert.Contains("RhoMin", Assert.Throws<ArgumentException>(() => Sampling.Sample(request with { Grid = new(schedule, schedule.RhoMax, 0) }, TestContext.Current.CancellationToken)).Message);
        Assert.Throws<NotSupportedException>(() => request.Sampler.Plan(request.Grid, 0));
    }

    [Fact]
    public void Network_ThatReturnsNaN_FailsWithTheReason()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        var request = net.Request(new AdaptiveSampler(ButcherTableau.Dopri5, Rough), "none", out _, 1) with { Field = NoiseField.From((x, t) => full_like(x, t < 500 ? double.NaN : 1)) };
        var error = Assert.Throws<StepSizeException>(() => Sampling.Sample(request, TestContext.Current.CancellationToken));
        Assert.Contains("not finite", error.Message);
        Assert.InRange(Math.Exp(error.At), 0.1, 10);
    }

    [Fact]
    public void SinglePrecision_TightTolerance_StillEndsWellOrSaysWhy()
    {
        using var scope = NewDisposeScope();
        var request = new SampleRequest
        {
            Field = NoiseField.From((x, t) => x.sin()),
            Noise = CounterNoise.Normal(new(3), [2, 3]),
            Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 1),
            Sampler = new AdaptiveSampler(ButcherTableau.Tsit5, new() { Relative = 1e-4, Absolute = 1e-4 }),
        };
        using var single = Sampling.Sample(request, TestContext.Current.CancellationToken);
        using var twice = Sampling.Sample(request with { Noise = request.Noise.to(ScalarType.Float64), Sampler = new AdaptiveSampler(ButcherTableau.Tsit5, new() { Relative = 1e-9, Absolute = 1e-9 }) }, TestContext.Current.CancellationToken);
        Assert.Equal(ScalarType.Float32, single.Sample.dtype);
        Assert.InRange(TestScalars.RelativeError(single.Sample.to(ScalarType.Float64), twice.Sample), 0, 1e-3);
        Assert.Contains("float32", Assert.Throws<StepSizeException>(() => Sampling.Sample(request with { Sampler = new AdaptiveSampler(ButcherTableau.Tsit5, new() { Relative = 1e-12, Absolute = 1e-12, MaxSteps = 100 }) }, TestContext.Current.CancellationToken)).Message);
    }

    private static Tensor Loss(Tensor sample) => sample.sin().Squared().mean();
}
