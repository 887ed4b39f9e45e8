using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Gradients whose exact value is known without any network.</summary>
public sealed class ClosedFormTests
{
    /// <summary>x_0 of the quantile-preserving mixture for x_1 = 16 at rho = 80, ending at rho = 0.002.</summary>
    internal const double MixtureSample = 0.947327298238249;

    // Data N(m, s²): the noise is rho (z - m) / (s² + rho²) at z = x / alpha, so each Euler step multiplies z - m by 1 - h rho / (s² + rho²).
    [Theory]
    [InlineData(0.05, 10)]
    [InlineData(0.3, 30)]
    [InlineData(1.0, 50)]
    public void EulerOnGaussianData_BothAdjoints_HaveTheirOwnGain(double s, int steps)
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.UniformTime(DiscreteVp.StableDiffusion, steps);
        var mean = tensor(0.7, ScalarType.Float64);
        var request = GaussianRequest(grid, Sampler.Ddim, s, mean);
        using var discrete = Sampling.Differentiate(request, x => x.sum(), GradientMethod.Discrete, TestContext.Current.CancellationToken);
        using var continuous = Sampling.Differentiate(request, x => x.sum(), GradientMethod.Continuous(), TestContext.Current.CancellationToken);

        double exact = 1, published = 1;
        for (var n = 0; n < steps; n++)
        {
            double a = grid.Points[n].Rho, b = grid.Points[n + 1].Rho;
            exact *= 1 - ((a - b) * a / ((s * s) + (a * a)));
            published *= 1 - ((a - b) * b / ((s * s) + (b * b)));
        }

        var scale = grid.End.Level.Alpha / grid.Start.Level.Alpha;
        Close(scale * exact, discrete.Noise.Number(), 1e-12);
        Close(scale * published, continuous.Noise.Number(), 1e-12);
        Close(grid.End.Level.Alpha * (1 - exact), discrete.Inputs["mean"].Number(), 1e-12);
        // Off the data manifold the published Euler gradient has the wrong sign once a step more than halves rho.
        if (s < 0.1)
            Assert.True(continuous.Noise.Number() < 0 && discrete.Noise.Number() > 0);
    }

    [Fact]
    public void Rk4OnGaussianData_FineGrid_GivesTheExactFlowAndItsGradients()
    {
        using var scope = NewDisposeScope();
        const double s = 0.5, m = 0.7;
        var grid = TimeGrid.LogSnr(new LinearVp(), 400);
        var mean = tensor(m, ScalarType.Float64);
        using var result = Sampling.Differentiate(GaussianRequest(grid, Sampler.Rk4, s, mean), x => x.sum(), cancellationToken: TestContext.Current.CancellationToken);
        double start = grid.Start.Rho, end = grid.End.Rho, ratio = Math.Sqrt(((s * s) + (end * end)) / ((s * s) + (start * start)));
        var zT = 1.3 / grid.Start.Level.Alpha;
        Close(grid.End.Level.Alpha * (m + ((zT - m) * ratio)), result.Loss, 1e-8);
        Close(grid.End.Level.Alpha / grid.Start.Level.Alpha * ratio, result.Noise.Number(), 1e-8);
        Close(grid.End.Level.Alpha * (1 - ratio), result.Inputs["mean"].Number(), 1e-8);
    }

    // One-dimensional mixture, weights .3 and .7 at ∓1, s = .2: the flow keeps quantiles, so value and both derivatives are closed form.
    internal static SampleRequest MixtureRequest(Sampler sampler, int steps, Tensor means) => new()
    {
        Field = (NoiseField.From((x, rho) => MixtureDenoiser(x, rho, means)) with { Prediction = Prediction.Sample }).With("means", means),
        Noise = full(1, 16.0, ScalarType.Float64),
        Grid = TimeGrid.Karras(new VarianceExploding(), steps),
        Sampler = sampler,
    };

    internal static SampleRequest GaussianRequest(TimeGrid grid, Sampler sampler, double s, Tensor mean) => new()
    {
        Field = NoiseField.From((x, t) =>
        {
            var level = grid.Schedule.At(t);
            using Scalar toZ = (1 / level.Alpha).ToScalar(), slope = (level.Rho / ((s * s) + (level.Rho * level.Rho))).ToScalar();
            return x.mul(toZ).sub(mean).mul(slope);
        }).With("mean", mean),
        Noise = full(1, 1.3, ScalarType.Float64),
        Grid = grid,
        Sampler = sampler,
    };

    private static Tensor MixtureDenoiser(Tensor x, double rho, Tensor means)
    {
        const double s2 = 0.04;
        var v = s2 + (rho * rho);
        using Scalar half = (-0.5 / v).ToScalar(), own = (s2 / v).ToScalar(), other = (rho * rho / v).ToScalar();
        var weights = cat([full(1, Math.Log(0.3), ScalarType.Float64), full(1, Math.Log(0.7), ScalarType.Float64)], 0);
        var distance = x.unsqueeze(-1).sub(means);
        var posterior = weights.add(distance.Squared(), half).softmax(-1);
        return posterior.mul(x.unsqueeze(-1).mul(own).add(means, other)).sum(-1);
    }

    private static void Close(double expected, double actual, double tolerance)
        => Assert.True(Math.Abs(actual - expected) <= tolerance * Math.Abs(expected), $"expected {expected:r}, got {actual:r}");
}
