using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Gaussian data N(m, Q diag(s²) Qᵀ), whose flow is z_0 = m + Q diag(R) Qᵀ (z_T - m) with R = sqrt((s² + rho_0²) / (s² + rho_T²)): value and gradients to x_T, m and s in closed form.</summary>
public sealed class GaussianFlowTests
{
    private static readonly double[] Deviations = [0.2, 0.7, 1.5], Start = [1.3, -0.4, 0.8], Cotangent = [1, -2, 0.5], Mean = [0.7, 0.1, -0.3];

    private static readonly double[,] Rotation = RotationBy(0.4, 1.1);

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    // Each direction has a gain of its own: the product of 1 - h rho_a / (s² + rho_a²), or with rho_b for the continuous adjoint.
    [Theory]
    [InlineData(10)]
    [InlineData(40)]
    public void Euler_RotatedCovariance_HasBothAdjointsGainsByDirection(int steps)
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.UniformTime(DiscreteVp.StableDiffusion, steps);
        using var discrete = Differentiate(Sampler.Ddim, grid, GradientMethod.Discrete);
        using var continuous = Differentiate(Sampler.Ddim, grid, GradientMethod.Continuous());
        Gradient(discrete, s => Gain(s, atClean: false));
        Gradient(continuous, s => Gain(s, atClean: true));

        double Gain(double s, bool atClean) => Enumerable.Range(0, steps).Aggregate(1.0, (gain, n) =>
        {
            double a = grid.Points[n].Rho, b = grid.Points[n + 1].Rho, at = atClean ? b : a;
            return gain * (1 - ((a - b) * at / ((s * s) + (at * at))));
        });

        void Gradient(SampleGradients actual, Func<double, double> gain)
        {
            var scale = grid.End.Level.Alpha / grid.Start.Level.Alpha;
            Assert.All(Turned(Cotangent, gain).Zip(actual.Noise.data<double>()), g => Assert.Equal(scale * g.First, g.Second, 1e-12 * scale));
            Assert.All(Turned(Cotangent, s => 1 - gain(s)).Zip(actual.Inputs["mean"].data<double>()), g => Assert.Equal(grid.End.Level.Alpha * g.First, g.Second, 1e-11));
        }
    }

    [Theory]
    [InlineData("rk4", 300)]
    [InlineData("ab4", 1500)]
    public void FineGrid_RotatedCovariance_IsTheFlowWithItsGradients(string sampler, int steps)
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.LogSnr(new LinearVp(), steps, rhoMin: 0.02, rhoMax: 20);
        using var result = Differentiate(Sampler.Named(sampler), grid, GradientMethod.Discrete);
        double start = grid.Start.Rho, end = grid.End.Rho, first = grid.Start.Level.Alpha, last = grid.End.Level.Alpha;
        double R(double s) => Math.Sqrt(((s * s) + (end * end)) / ((s * s) + (start * start)));
        double[] offset = [.. Start.Zip(Mean, (x, m) => (x / first) - m)];
        Close(last * Turned(offset, R).Zip(Mean, (z, m) => z + m).Zip(Cotangent, (x, c) => x * c).Sum(), result.Loss);
        Assert.All(Turned(Cotangent, R).Zip(result.Noise.data<double>()), g => Close(last / first * g.First, g.Second));
        Assert.All(Turned(Cotangent, s => 1 - R(s)).Zip(result.Inputs["mean"].data<double>()), g => Close(last * g.First, g.Second));
        // dR/ds = s R (1 / (s² + rho_0²) - 1 / (s² + rho_T²)), along each axis.
        for (var i = 0; i < 3; i++)
        {
            double s = Deviations[i], slope = s * R(s) * ((1 / ((s * s) + (end * end))) - (1 / ((s * s) + (start * start))));
            Close(last * Along(offset, i) * Along(Cotangent, i) * slope, result.Inputs["deviations"][i].Number());
        }

        static void Close(double expected, double actual) => Assert.Equal(expected, actual, 1e-7 * Math.Max(1, Math.Abs(expected)));
    }

    // Errors of value and gradient for data N(.3, .5²) from x = 56 over Karras' levels from 80 to .002.
    [Theory]
    [InlineData("ddim", 16, 5.66e-2, 1.6e-1)]
    [InlineData("heun", 16, 2.19e-2, 6.3e-2)]
    [InlineData("dpm2", 16, 1.25e-2, 3.6e-2)]
    [InlineData("dpm++2m", 16, 2.46e-2, 7.1e-2)]
    [InlineData("ddim", 512, 1.93e-3, 5.5e-3)]
    [InlineData("heun", 512, 1.88e-5, 5.4e-5)]
    [InlineData("dpm2", 512, 1.09e-5, 3.1e-5)]
    [InlineData("dpm++2m", 512, 1.89e-5, 5.4e-5)]
    public void IdealDenoiser_KarrasGrid_HasTheErrorsOfTheTable(string sampler, int steps, double value, double gradient)
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.Karras(new VarianceExploding(), steps);
        var request = ClosedFormTests.GaussianRequest(grid, Sampler.Named(sampler), 0.5, tensor(0.3, ScalarType.Float64)) with { Noise = full(1, 56.0, ScalarType.Float64) };
        using var result = Sampling.Differentiate(request, x => x.sum(), cancellationToken: Token);
        var ratio = Math.Sqrt((0.25 + (0.002 * 0.002)) / (0.25 + (80.0 * 80)));
        Assert.Equal(value, Math.Abs(result.Loss - (0.3 + (55.7 * ratio))), 0.0051 * value);
        Assert.Equal(gradient, Math.Abs((result.Noise.Number() / ratio) - 1), 0.035 * gradient);
    }

    private static SampleGradients Differentiate(Sampler sampler, TimeGrid grid, GradientMethod method)
    {
        Tensor mean = tensor(Mean, ScalarType.Float64), deviations = tensor(Deviations, ScalarType.Float64), cotangent = tensor(Cotangent, ScalarType.Float64);
        var q = tensor(Rotation, ScalarType.Float64);
        return Sampling.Differentiate(
            new()
            {
                Field = NoiseField.From((x, t) =>
                {
                    var level = grid.Schedule.At(t);
                    using Scalar toZ = (1 / level.Alpha).ToScalar(), rho = level.Rho.ToScalar(), square = (level.Rho * level.Rho).ToScalar();
                    return x.mul(toZ).sub(mean).matmul(q).div(deviations.mul(deviations).add(square)).mul(rho).matmul(q.t());
                }).With("mean", mean).With("deviations", deviations),
                Noise = tensor(Start, ScalarType.Float64).unsqueeze(0),
                Grid = grid,
                Sampler = sampler,
            },
            x => x.mul(cotangent).sum(),
            method,
            Token);
    }

    // Q diag(f(s)) Qᵀ v.
    private static double[] Turned(double[] v, Func<double, double> f)
        => [.. Enumerable.Range(0, 3).Select(i => Enumerable.Range(0, 3).Sum(k => Rotation[i, k] * f(Deviations[k]) * Along(v, k)))];

    private static double Along(double[] v, int axis) => Enumerable.Range(0, 3).Sum(i => Rotation[i, axis] * v[i]);

    private static double[,] RotationBy(double a, double b)
    {
        var (sa, ca) = Math.SinCos(a);
        var (sb, cb) = Math.SinCos(b);
        return new[,] { { ca, -sa * cb, sa * sb }, { sa, ca * cb, -ca * sb }, { 0, sb, cb } };
    }
}
