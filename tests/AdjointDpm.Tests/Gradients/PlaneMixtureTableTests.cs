using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>How far both adjoints are from the gradient of the exact flow on the mixture in the plane, and what the published code's table lookup does to it.</summary>
public sealed class PlaneMixtureTableTests
{
    private static readonly double[] OfNoise = [0.2533207828, -0.5752351916];
    private static readonly double[] OfMeans = [0.7423344339, -1.2236776944, -0.0170627834, -0.0169255392, 0.1265417490, -0.1066075730];

    // Relative errors of dL/dx_T against the exact flow: discrete, continuous, continuous with every stage looked up at the nearest grid point; of dL/dmu, continuous against discrete; their cosine in x_T.
    [Theory]
    [InlineData("ddim", 10, 2.0345e-1, 1.5141e-1, 1.5141e-1, 2.5472e-1, 0.99202)]
    [InlineData("ddim", 20, 1.4971e-1, 9.9031e-1, 9.9031e-1, 1.0016e-1, 0.88886)]
    [InlineData("ddim", 40, 7.1572e-2, 7.9164e-1, 7.9164e-1, 4.7454e-2, 0.99426)]
    [InlineData("ddim", 80, 3.5428e-2, 4.9536e-1, 4.9536e-1, 2.3157e-2, 0.99930)]
    [InlineData("ddim", 160, 1.7619e-2, 2.7527e-1, 2.7527e-1, 1.1446e-2, 0.99988)]
    [InlineData("midpoint", 10, 1.6925e-1, 4.2929e+1, double.NaN, 1.3974e-1, 0.95182)]
    [InlineData("midpoint", 20, 7.5611e-3, 1.3027e+0, double.NaN, 2.0685e-2, 0.99942)]
    [InlineData("midpoint", 40, 4.2259e-3, 1.8835e-1, double.NaN, 4.1507e-3, 0.99997)]
    [InlineData("midpoint", 80, 1.1342e-3, 3.9464e-2, double.NaN, 9.5201e-4, 1)]
    [InlineData("midpoint", 160, 2.9240e-4, 9.1936e-3, double.NaN, 2.2786e-4, 1)]
    [InlineData("rk4-38", 10, 1.9842e-2, 2.6628e-2, 2.6968e-1, 1.4685e-3, 0.99997)]
    [InlineData("rk4-38", 20, 4.3712e-4, 3.2661e-4, 1.6867e-1, 1.7343e-4, 1)]
    [InlineData("rk4-38", 40, 2.5850e-5, 2.9251e-5, 4.9289e-2, 8.7423e-6, 1)]
    [InlineData("rk4-38", 80, 1.9913e-6, 2.8913e-6, 1.2804e-2, 5.1773e-7, 1)]
    [InlineData("rk4-38", 160, 1.3198e-7, 2.0979e-7, 3.2315e-3, 3.3004e-8, 1)]
    public void Gradients_LogSnrGrid_HaveTheErrorsOfTheTable(string method, int steps, double discrete, double continuous, double snapped, double means, double cosine)
    {
        using var scope = NewDisposeScope();
        var tableau = Sampler.Named(method).Backward!;
        var grid = TimeGrid.LogSnr(new LinearVp(), steps);
        using var exact = Gradient(Sampler.Named(method), grid, GradientMethod.Discrete);
        using var published = Gradient(Sampler.Named(method), grid, GradientMethod.Continuous());
        using var official = Gradient(OfficialCode.Snapped(tableau), grid, GradientMethod.Continuous());
        Close(discrete, Error(exact.Noise, OfNoise));
        Close(continuous, Error(published.Noise, OfNoise));
        // The midpoint's stage lies just between two grid points: which is nearer is a matter of rounding.
        if (!double.IsNaN(snapped))
            Close(snapped, Error(official.Noise, OfNoise));
        var agreement = GradientCheck.Compare(published, exact);
        Close(means, agreement[1].RelativeError);
        Assert.Equal(cosine, agreement[0].Cosine, 1e-5);
    }

    // The exact gradient of a coarse solve against differences of that very solve.
    [Theory]
    [InlineData("ddim")]
    [InlineData("midpoint")]
    [InlineData("heun")]
    [InlineData("rk4-38")]
    public void Discrete_CoarseGrid_EqualsFiniteDifferences(string sampler)
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.LogSnr(new LinearVp(), 10);
        using var exact = Gradient(Sampler.Named(sampler), grid, GradientMethod.Discrete);
        var request = Request(Sampler.Named(sampler), grid);
        foreach (var (name, gradient) in exact.Inputs.Append(new(GradientCheck.NoiseName, exact.Noise)))
        {
            var differences = gradient.reshape(-1).data<double>().Select((_, i) =>
            {
                var direction = zeros_like(gradient).reshape(-1);
                direction[i] = 1;
                double wide = Difference(2e-4), narrow = Difference(1e-4);
                return ((4 * narrow) - wide) / 3;
                double Difference(double step) => GradientCheck.FiniteDifference(request, Loss, name, direction.reshape(gradient.shape), step, TestContext.Current.CancellationToken);
            }).ToArray();
            Assert.InRange(Error(gradient, differences), 0, 7e-10);
        }
    }

    [Theory]
    [InlineData("ddim", 1)]
    [InlineData("midpoint", 2)]
    [InlineData("heun", 2)]
    [InlineData("rk4-38", 4)]
    public void Discrete_GridsRefined_ConvergesToTheFlowsGradientWithTheOrder(string sampler, int order)
    {
        using var scope = NewDisposeScope();
        int[] steps = order == 4 ? [80, 160] : [160, 320];
        var errors = steps.Select(n =>
        {
            using var result = Gradient(Sampler.Named(sampler), TimeGrid.LogSnr(new LinearVp(), n), GradientMethod.Discrete);
            return (Noise: Error(result.Noise, OfNoise), Means: Error(result.Inputs["means"], OfMeans));
        }).ToArray();
        double ofNoise = Math.Log2(errors[0].Noise / errors[1].Noise), ofMeans = Math.Log2(errors[0].Means / errors[1].Means);
        Assert.True(Math.Abs(ofNoise - order) < 0.15 && Math.Abs(ofMeans - order) < 0.15, $"orders {ofNoise:f2} at x_T, {ofMeans:f2} at the means");
    }

    [Fact]
    public void Gradient_FineGrid_IsThatOfTheFlow()
    {
        using var scope = NewDisposeScope();
        using var result = Gradient(Sampler.ThreeEighths, TimeGrid.LogSnr(new LinearVp(), 600), GradientMethod.Discrete);
        Assert.Equal(1.276941202175, result.Loss, 1e-9);
        Assert.InRange(Error(result.Noise, OfNoise), 0, 1e-9);
        Assert.InRange(Error(result.Inputs["means"], OfMeans), 0, 1e-9);
    }

    // On a time-uniform grid of 40 steps the lookup costs the fourth-order method three digits.
    [Fact]
    public void Snapped_TimeGrid_LosesTheOrder()
    {
        using var scope = NewDisposeScope();
        var grid = TimeGrid.UniformTime(new LinearVp(), 40);
        using var right = Gradient(Sampler.ThreeEighths, grid, GradientMethod.Continuous());
        using var snapped = Gradient(OfficialCode.Snapped(ButcherTableau.ThreeEighths), grid, GradientMethod.Continuous());
        Close(1.8258e-5, Error(right.Noise, OfNoise));
        Close(2.3722e-2, Error(snapped.Noise, OfNoise));
    }

    internal static SampleGradients Gradient(Sampler sampler, TimeGrid grid, GradientMethod method)
        => Sampling.Differentiate(Request(sampler, grid), Loss, method, TestContext.Current.CancellationToken);

    private static SampleRequest Request(Sampler sampler, TimeGrid grid)
    {
        var means = tensor(PlaneMixtureTests.Means, ScalarType.Float64).reshape(3, 2);
        return new()
        {
            // A snapped stage is told the grid point's own time.
            Field = NoiseField.From((x, t) => PlaneMixtureTests.Noise(x, grid.Schedule.At(t), means)).With("means", means),
            Noise = tensor(PlaneMixtureTests.Start, ScalarType.Float64).unsqueeze(0),
            Grid = grid,
            Sampler = sampler,
        };
    }

    private static Tensor Loss(Tensor x)
    {
        using var half = 0.5.ToScalar();
        return x.sub(tensor(PlaneMixtureTests.Target, ScalarType.Float64)).Squared().sum().mul(half);
    }

    private static double Error(Tensor gradient, double[] exact)
        => Math.Sqrt(gradient.reshape(-1).data<double>().Zip(exact, (g, e) => (g - e) * (g - e)).Sum() / exact.Sum(e => e * e));

    // The exact gradient is known to ten digits.
    private static void Close(double expected, double actual)
        => Assert.True(Math.Abs(actual - expected) <= (5.1e-5 * Math.Pow(10, Math.Floor(Math.Log10(expected)))) + 3e-10, $"expected {expected:e4}, got {actual:e6}");
}
