using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Gaussian data, whose flow and both adjoints' products are closed forms: by the deviation, by a full covariance, and the ideal denoiser's table.</summary>
public sealed class GaussianGradientTests
{
    private static readonly double[] Deviations = [0.05, 0.4, 1.3];

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    // z_0 = m + (z_T - m) R with R = sqrt((s² + rho_0²) / (s² + rho_T²)), so dz_0/ds = (z_T - m) s (1 / (s² + rho_0²) - 1 / (s² + rho_T²)) R.
    [Fact]
    public void Deviation_FineGrid_HasTheFlowsGradient()
    {
        using var scope = NewDisposeScope();
        const double s = 0.5, m = 0.7, x = 1.3;
        var deviation = tensor(s, ScalarType.Float64);
        var grid = TimeGrid.LogSnr(new LinearVp(), 400);
        var request = new SampleRequest
        {
            Field = NoiseField.From((y, t) =>
            {
                var level = grid.Schedule.At(t);
                using Scalar toZ = (1 / level.Alpha).ToScalar(), rho = level.Rho.ToScalar(), rho2 = (level.Rho * level.Rho).ToScalar(), mean = (-m).ToScalar();
                return y.mul(toZ).add(mean).mul(rho).div(deviation.mul(deviation).add(rho2));
            }).With("deviation", deviation),
            Noise = full(1, x, ScalarType.Float64),
            Grid = grid,
            Sampler = Sampler.Rk4,
        };
        double start = (s * s) + (grid.Start.Rho * grid.Start.Rho), end = (s * s) + (grid.End.Rho * grid.End.Rho);
        var expected = grid.End.Level.Alpha * ((x / grid.Start.Level.Alpha) - m) * s * ((1 / end) - (1 / start)) * Math.Sqrt(end / start);
        foreach (var method in new[] { GradientMethod.Discrete, GradientMethod.Continuous() })
        {
            using var result = Sampling.Differentiate(request, y => y.sum(), method, Token);
            Assert.Equal(1, result.Inputs["deviation"].ToDouble() / expected, 1e-7);
        }
    }

    // Along each axis of a rotated covariance a step from rho_a to rho_b multiplies the gradient by 1 - h rho / (s² + rho²), taken at rho_a by the discrete adjoint and at rho_b by the published one.
    [Fact]
    public void RotatedCovariance_EulersGains_AreExactAlongEveryAxis()
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.UniformTime(DiscreteVp.StableDiffusion, 25);
        var request = Rotated(grid, Sampler.Ddim, out var axes, out var cotangent);
        using var discrete = Sampling.Differentiate(request, x => x.mul(cotangent).sum(), cancellationToken: Token);
        using var continuous = Sampling.Differentiate(request, x => x.mul(cotangent).sum(), GradientMethod.Continuous(), Token);
        var exact = Gain((a, b, v) => 1 - ((a - b) * a / (v + (a * a))));
        Assert.InRange(TestScalars.RelativeError(discrete.Noise, Along(exact, 1 / grid.Start.Level.Alpha)), 0, 1e-12);
        Assert.InRange(TestScalars.RelativeError(discrete.Inputs["mean"], Along([.. exact.Select(g => 1 - g)], 1)), 0, 1e-12);
        Assert.InRange(TestScalars.RelativeError(continuous.Noise, Along(Gain((a, b, v) => 1 - ((a - b) * b / (v + (b * b)))), 1 / grid.Start.Level.Alpha)), 0, 1e-12);

        double[] Gain(Func<double, double, double, double> factor)
            => [.. Deviations.Select(s => grid.Points.Zip(grid.Points.Skip(1), (a, b) => factor(a.Rho, b.Rho, s * s)).Aggregate((p, f) => p * f))];
        Tensor Along(double[] gains, double scale) => cotangent.matmul(axes).mul(tensor([.. gains.Select(g => g * scale * grid.End.Level.Alpha)])).matmul(axes.t());
    }

    [Fact]
    public void RotatedCovariance_FineGrid_IsTheFlow()
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.LogSnr(new LinearVp(), 400);
        var request = Rotated(grid, Sampler.Rk4, out var axes, out var cotangent);
        using var result = Sampling.Differentiate(request, x => x.mul(cotangent).sum(), cancellationToken: Token);
        double start = grid.Start.Rho, end = grid.End.Rho, scale = grid.End.Level.Alpha / grid.Start.Level.Alpha;
        var gains = tensor([.. Deviations.Select(s => scale * Math.Sqrt(((s * s) + (end * end)) / ((s * s) + (start * start))))]);
        Assert.InRange(TestScalars.RelativeError(result.Noise, cotangent.matmul(axes).mul(gains).matmul(axes.t())), 0, 1e-6);
    }

    // Ideal denoiser of N(0.3, 0.5²), Karras levels from 80 to 0.002, x_T = 56: error of the sample, relative error of its derivative.
    [Theory]
    [InlineData("ddim", 16, 5.66e-2, 1.6e-1)]
    [InlineData("heun", 16, 2.19e-2, 6.3e-2)]
    [InlineData("dpm2", 16, 1.25e-2, 3.6e-2)]
    [InlineData("dpm++2m", 16, 2.46e-2, 7.1e-2)]
    [InlineData("ddim", 512, 1.93e-3, 5.5e-3)]
    [InlineData("heun", 512, 1.88e-5, 5.4e-5)]
    [InlineData("dpm2", 512, 1.09e-5, 3.1e-5)]
    [InlineData("dpm++2m", 512, 1.89e-5, 5.4e-5)]
    public void IdealDenoiser_KarrasGrid_HasTheErrorsOfTheTable(string sampler, int steps, double value, double derivative)
    {
        using var scope = NewDisposeScope();
        const double s = 0.5, m = 0.3, x = 56;
        var grid = TimeGrid.Karras(new VarianceExploding(), steps);
        using var result = Sampling.Differentiate(ClosedFormTests.GaussianRequest(grid, Sampler.Named(sampler), s, tensor(m, ScalarType.Float64)) with { Noise = full(1, x, ScalarType.Float64) }, y => y.sum(), cancellationToken: Token);
        var gain = Math.Sqrt(((s * s) + (grid.End.Rho * grid.End.Rho)) / ((s * s) + (grid.Start.Rho * grid.Start.Rho)));
        Digits(value, 3, Math.Abs(result.Sample.ToDouble() - (m + ((x - m) * gain))));
        Digits(derivative, 2, Math.Abs((result.Noise.ToDouble() / gain) - 1));
    }

    private static void Digits(double expected, int digits, double actual)
        => Assert.True(Math.Abs(actual - expected) <= 0.51 * Math.Pow(10, Math.Floor(Math.Log10(expected)) + 1 - digits), $"expected {expected:e2}, got {actual:e4}");

    // Data of deviations along rotated axes.
    internal static SampleRequest Rotated(TimeGrid grid, Sampler sampler, out Tensor axes, out Tensor cotangent)
    {
        // The orthogonal factor of a full matrix: no axis is a coordinate's.
        var q = linalg.qr(CounterNoise.Normal(new(31), [3, 3], ScalarType.Float64)).Q;
        var mean = CounterNoise.Normal(new(32), [3], ScalarType.Float64);
        (axes, cotangent) = (q, CounterNoise.Normal(new(33), [3], ScalarType.Float64));
        return new()
        {
            Field = NoiseField.From((x, t) =>
            {
                var level = grid.Schedule.At(t);
                using var toZ = (1 / level.Alpha).ToScalar();
                var slopes = tensor([.. Deviations.Select(s => level.Rho / ((s * s) + (level.Rho * level.Rho)))]);
                return x.mul(toZ).sub(mean).matmul(q).mul(slopes).matmul(q.t());
            }).With("mean", mean),
            Noise = CounterNoise.Normal(new(34), [3], ScalarType.Float64),
            Grid = grid,
            Sampler = sampler,
        };
    }
}
