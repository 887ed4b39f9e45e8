using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>Gradients through a general equation: with variance exploding, x is y, the network is told rho, and the sampler solves dy/drho = eps(y, rho).</summary>
public sealed class VanDerPolTests
{
    private const double Least = 0.5, Span = 10;

    // torchdiffeq's dopri5 gives 2.2e-5 and 1.7e-8 through the discrete solution, 1.0e-3 and 6.1e-5 by the continuous adjoint, which solves y back along a direction in which it is unstable:
    // there only the size can be compared. At 1e-3 every one of these gradients is wrong by half of itself or more, and the way back may not exist.
    [Theory]
    [InlineData(1e-6, 2.2e-5, 1.0e-2)]
    [InlineData(1e-9, 1.7e-8, 6.1e-5)]
    public void GradientError_AgainstTolerance_IsAsKnown(double tolerance, double ofDiscrete, double ofContinuous)
    {
        using var scope = NewDisposeScope();
        var control = new StepControl { Relative = tolerance, Absolute = tolerance, MaxSteps = 10_000 };
        var truth = Gradient(new AdaptiveSampler(ButcherTableau.Dopri8, new() { Relative = 1e-13, Absolute = 1e-13, MaxSteps = 10_000 }, IntegrationVariable.Rho), GradientMethod.Discrete);
        var sampler = new AdaptiveSampler(ButcherTableau.Dopri5, control, IntegrationVariable.Rho);
        Assert.InRange(TestScalars.RelativeError(Gradient(sampler, GradientMethod.Discrete), truth), 0, ofDiscrete);
        Assert.InRange(TestScalars.RelativeError(Gradient(sampler, GradientMethod.Continuous(control)), truth), 0, ofContinuous);
    }

    // A hundred fixed steps: the transposed plan is automatic differentiation to the last place; the continuous adjoint is something else.
    [Theory]
    [InlineData("midpoint", 1e-3)]
    [InlineData("rk4", 1e-5)]
    [InlineData("dopri5", 1e-7)]
    public void FixedSteps_DiscreteIsAutomaticDifferentiation_ContinuousIsNot(string tableau, double apart)
    {
        using var scope = NewDisposeScope();
        var sampler = new RungeKutta(tableau, tableau switch { "midpoint" => ButcherTableau.Midpoint, "rk4" => ButcherTableau.Rk4, _ => ButcherTableau.Dopri5 });
        var unrolled = Gradient(sampler, GradientMethod.StoreAll);
        Assert.InRange(TestScalars.RelativeError(Gradient(sampler, GradientMethod.Discrete), unrolled), 0, 1e-14);
        Assert.InRange(TestScalars.RelativeError(Gradient(sampler, GradientMethod.Continuous()), unrolled), apart, 100 * apart);
    }

    // y' = y by Euler in ten steps of 0.1, forwards: (1 + 0.1)^10, and that is the derivative too.
    [Fact]
    public void EulerOnAGivenGrid_ValueAndDerivativeAreExact()
    {
        using var scope = NewDisposeScope();
        var grid = new TimeGrid(new VarianceExploding(), [.. Enumerable.Range(0, 11).Select(n => 1 + (0.1 * n))]);
        var request = new SampleRequest { Field = NoiseField.From((y, _) => y.clone()), Noise = ones([1, 1], ScalarType.Float64), Grid = grid };
        using var result = Sampling.Differentiate(request, y => y.sum(), cancellationToken: TestContext.Current.CancellationToken);
        Assert.Equal(Math.Pow(1.1, 10), result.Sample.Number(), 1e-13);
        Assert.Equal(Math.Pow(1.1, 10), result.Noise.Number(), 1e-13);
    }

    private static Tensor Gradient(Sampler sampler, GradientMethod method)
    {
        var mu = full(1, 1.0, ScalarType.Float64);
        var schedule = new VarianceExploding(Least, Least + Span);
        var request = new SampleRequest
        {
            Field = NoiseField.From((y, _) => Field(y, mu)).With("mu", mu),
            Noise = cat([full([1, 1], 2, ScalarType.Float64), zeros([1, 1], ScalarType.Float64)], 1),
            Grid = new TimeGrid(schedule, [.. Enumerable.Range(0, sampler is AdaptiveSampler ? 2 : 101).Select(n => Least + (sampler is AdaptiveSampler ? Span * n : Span * n / 100))]),
            Sampler = sampler,
        };
        using var result = Sampling.Differentiate(request, y => y.sum(), method, TestContext.Current.CancellationToken);
        return cat([result.Noise.flatten(), result.Inputs["mu"]], 0);
    }

    private static Tensor Field(Tensor y, Tensor mu)
    {
        var (a, b) = (y.narrow(1, 0, 1), y.narrow(1, 1, 1));
        var damping = ones_like(a).sub(a.Squared()).mul(b).mul(mu);
        return cat([b, damping.sub(a)], 1);
    }
}
