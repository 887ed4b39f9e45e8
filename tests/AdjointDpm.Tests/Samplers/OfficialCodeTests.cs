using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Gradients;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Samplers;

/// <summary>The faults of the published code, reproduced on purpose, and the warning of the one that the method itself has.</summary>
public sealed class OfficialCodeTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    // Data N(0, .1²), time-uniform grid of 30 steps: the exact gain is 6.6e-4.
    [Theory]
    [InlineData(11, 45.31)]
    [InlineData(6, 6.0e-4)]
    [InlineData(4, 5.7e-4)]
    public void ExplicitAdams_GaussianData_DivergesWithManyNoises(int mostNoises, double gain)
    {
        const double s2 = 0.01;
        var grid = TimeGrid.UniformTime(new LinearVp(), 30);
        double Gain(Sampler sampler)
            => ScalarWalk.Run(sampler, grid, grid.Start.Level.Alpha, ScalarWalk.Denoiser((y, rho) => s2 * y / (s2 + (rho * rho)))) / grid.End.Level.Alpha;

        Assert.Equal(gain, Math.Abs(Gain(OfficialCode.ExplicitAdams(mostNoises))), 0.01 * gain);
        Assert.Equal(6.6e-4, Gain(Sampler.Adams4), 1e-4);
    }

    [Fact]
    public void ExplicitAdams_PlaneMixture_IsWorseThanEulerByOrders()
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.UniformTime(new LinearVp(), 30);
        using var exact = PlaneMixtureTableTests.Gradient(Sampler.Rk4, TimeGrid.LogSnr(new LinearVp(), 300), GradientMethod.Discrete);
        using var euler = PlaneMixtureTableTests.Gradient(Sampler.Ddim, grid, GradientMethod.Discrete);
        using var official = PlaneMixtureTableTests.Gradient(OfficialCode.ExplicitAdams(), grid, GradientMethod.Discrete);
        using var right = PlaneMixtureTableTests.Gradient(Sampler.Adams4, grid, GradientMethod.Discrete);
        Assert.InRange(TestScalars.RelativeError(euler.Sample, exact.Sample), 0.005, 0.1);
        Assert.InRange(TestScalars.RelativeError(official.Sample, exact.Sample), 1e3, double.PositiveInfinity);
        Assert.InRange(TestScalars.RelativeError(right.Sample, exact.Sample), 0, 0.01);
    }

    [Fact]
    public void ExplicitAdams_ElevenNoises_HasItsLargeWeights()
        => Assert.Equal(133.019, AdamsBashforth.EqualSteps(11).Max(Math.Abs), 1e-3);

    // Stable Diffusion's sigmas at linspace(0, 999, points): product over the steps of each adjoint's factor, off the data (s = 0) and on it (s = 1).
    [Theory]
    [InlineData(10, 0, -0.0044, 0.0020, 12.6)]
    [InlineData(30, 0, -0.0195, 0.0020, double.NaN)]
    [InlineData(50, 0, -0.0130, 0.0020, 4.78)]
    [InlineData(10, 1, 0.0064, 0.0590, 12.6)]
    [InlineData(30, 1, 0.0481, 0.0652, double.NaN)]
    [InlineData(50, 1, 0.0564, 0.0664, 4.78)]
    public void ContinuousEuler_StableDiffusionGrid_FlipsItsSignAndSaysSo(int points, double s, double continuous, double discrete, double lastRatio)
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.Diffusers(DiscreteVp.StableDiffusion, GridKind.Linspace, points, endWithoutNoise: false, family: SchedulerFamily.Interpolated);
        Assert.Equal(points - 1, grid.Steps);
        if (!double.IsNaN(lastRatio))
            Assert.Equal(lastRatio, grid.Points[^2].Rho / grid.End.Rho, 0.05);
        var levels = grid.Points.ToDictionary(p => p.Time, p => p.Level);
        var request = new SampleRequest
        {
            Field = NoiseField.From((x, t) =>
            {
                var (level, rho) = (levels[t], levels[t].Rho);
                using var slope = (rho / ((s * s) + (rho * rho)) / level.Alpha).ToScalar();
                return x.mul(slope);
            }),
            Noise = full(1, 1.0, ScalarType.Float64),
            Grid = grid,
        };
        using var exact = Sampling.Differentiate(request, x => x.sum(), GradientMethod.Discrete, Token);
        using var published = Sampling.Differentiate(request, x => x.sum(), GradientMethod.Continuous(), Token);
        var scale = grid.Start.Level.Alpha / grid.End.Level.Alpha;
        Assert.Equal(discrete, scale * exact.Noise.Number(), 5.1e-5);
        Assert.Equal(continuous, scale * published.Noise.Number(), 6e-5);
        Assert.Empty(exact.Statistics.Warnings);
        Assert.Contains($"at step {grid.Steps - 1}", Assert.Single(published.Statistics.Warnings), StringComparison.Ordinal);
    }

    [Fact]
    public void Continuous_FineGrid_DoesNotWarn()
    {
        using var scope = NewDisposeScope();
        using var net = new TinyDenoiser();
        using var result = Sampling.Differentiate(net.Request(Sampler.Ddim, "none", out _, steps: 12), x => x.sum(), GradientMethod.Continuous(), Token);
        Assert.Empty(result.Statistics.Warnings);
    }
}
