using System.Numerics;
using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>The discrete adjoint against complex steps, f'(x) = Im f(x + ih) / h: derivatives to rounding, by arithmetic that shares nothing with automatic differentiation.</summary>
public sealed class ComplexStepTests
{
    private const double Variance = 0.04, Start = 16;
    private static readonly Complex Step = new(0, 1e-30);

    public static TheoryData<string> Names() => [.. Sampler.Known.Select(s => s.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Discrete_MixtureOnTheLine_EqualsComplexSteps(string name)
    {
        using var scope = NewDisposeScope();
        var sampler = Sampler.Named(name);
        var means = cat([full(1, -1.0, ScalarType.Float64), full(1, 1.0, ScalarType.Float64)], 0);
        var request = ClosedFormTests.MixtureRequest(sampler, 32, means) with { Key = new(8) };
        using var result = Sampling.Differentiate(request, x => x.sum(), cancellationToken: TestContext.Current.CancellationToken);

        Close("x_T", Derivative(Step, 0, 0), result.Noise.Number());
        Close("left mean", Derivative(0, Step, 0), result.Inputs["means"][0].Number());
        Close("right mean", Derivative(0, 0, Step), result.Inputs["means"][1].Number());

        double Derivative(Complex ofNoise, Complex ofLeft, Complex ofRight)
            => ScalarWalk.Walk(sampler, request.Grid, Start + ofNoise, Network(-1 + ofLeft, 1 + ofRight), Draw).Imaginary / Step.Imaginary;
        double Draw(int step, int index)
        {
            var draw = new double[1];
            CounterNoise.Fill(new(8, Draw: (ushort)(1 + (4 * step) + index)), 0, draw);
            return draw[0];
        }
    }

    // The posterior mean of .3 N(left, .04) + .7 N(right, .04).
    private static Func<Complex, GridPoint, Prediction, Complex> Network(Complex left, Complex right) => (x, at, wanted) =>
    {
        double rho2 = at.Rho * at.Rho, v = Variance + rho2;
        Complex y = x / at.Level.Alpha, a = Math.Log(0.3) - ((y - left) * (y - left) / (2 * v)), b = Math.Log(0.7) - ((y - right) * (y - right) / (2 * v));
        var most = Math.Max(a.Real, b.Real);
        Complex ofLeft = Complex.Exp(a - most), ofRight = Complex.Exp(b - most), mean = ((ofLeft * left) + (ofRight * right)) / (ofLeft + ofRight);
        var (ofX, ofSample) = Prediction.Sample.To(wanted, at.Level);
        return (ofX * x) + (ofSample * ((Variance * y) + (rho2 * mean)) / v);
    };

    private static void Close(string what, double expected, double actual)
        => Assert.True(Math.Abs(actual - expected) <= 1e-12 * Math.Max(Math.Abs(expected), 1e-3), $"{what}: complex step {expected:r}, adjoint {actual:r}, relative {Math.Abs((actual / expected) - 1):e1}");
}
