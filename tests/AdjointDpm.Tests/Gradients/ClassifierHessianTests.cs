using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>What leaving out -s sigma ∇² log p(y | x) does to the gradient of a guided sample, as the published attack code does: a table on the mixture of the line.</summary>
public sealed class ClassifierHessianTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    // Data .3 N(-1, .04) + .7 N(1, .04), guided to the right by its own classifier; Karras levels from 80 to 0.002, 40 steps, x_T = -30. Computed apart: the exact derivative by complex steps, the detached one by hand.
    [Theory]
    [InlineData("ddim", 0, 0.695869117434085, 0.010115096949363215, 0.01011509694936322)]
    [InlineData("ddim", 1, 0.9285241510897271, 0.00230567254549268, 0.003845533501751073)]
    [InlineData("ddim", 2, 1.017734384707871, 0.0016309775262547438, 0.0032113449447847236)]
    [InlineData("ddim", 4, 1.1270260398996488, 0.0012286866115998882, 0.002815237653983365)]
    [InlineData("ddim", 8, 1.2634037801715616, 0.000998953054484006, 0.0025825917409255297)]
    [InlineData("heun", 0, 0.7111372132559479, 0.009570172235727887, 0.009570172235727892)]
    [InlineData("heun", 1, 0.9215542259450082, 0.0025305088404836, 0.003987825449121379)]
    [InlineData("heun", 2, 1.006853097842575, 0.00188386746675182, 0.0034099668807363193)]
    [InlineData("heun", 4, 1.1140720491716942, 0.0014734454298399589, 0.003037894692082199)]
    [InlineData("heun", 8, 1.2503427130656086, 0.0012218621551159637, 0.0028123643850184793)]
    public void LineMixture_ByScale_HasTheGradientsOfTheTable(string sampler, double scale, double sample, double exact, double detached)
    {
        using var scope = NewDisposeScope();
        foreach (var (through, expected) in new[] { (true, exact), (false, detached) })
        {
            using var result = Sampling.Differentiate(LineRequest(sampler, 40, scale, through, -30), x => x.sum(), cancellationToken: Token);
            Assert.Equal(sample, result.Sample.Number(), 1e-11);
            Assert.Equal(1, result.Noise.Number() / expected, 1e-10);
        }
    }

    // With scale 1 the guided flow is that of the right component alone: each Euler step multiplies the gradient by 1 - h rho / (s² + rho²). The detached gradient has lost that.
    [Fact]
    public void LineMixture_ScaleOne_IsTheFlowOfTheComponent()
    {
        using var scope = NewDisposeScope();
        var request = LineRequest("ddim", 40, 1, true, -30);
        var gain = request.Grid.Points.Zip(request.Grid.Points.Skip(1), (a, b) => 1 - ((a.Rho - b.Rho) * a.Rho / (0.04 + (a.Rho * a.Rho)))).Aggregate((p, f) => p * f);
        using var result = Sampling.Differentiate(request, x => x.sum(), cancellationToken: Token);
        Assert.Equal(1 + ((-30 - 1) * gain), result.Sample.Number(), 1e-11);
        Assert.Equal(1, result.Noise.Number() / gain, 1e-11);
    }

    private static SampleRequest LineRequest(string sampler, int steps, double scale, bool exact, double start)
    {
        var means = tensor(new double[] { -1, 1 });
        var request = ClosedFormTests.MixtureRequest(Sampler.Named(sampler), steps, means);
        var field = request.Field.WithClassifier(
            (x, rho) =>
            {
                using var half = (-0.5 / (0.04 + (rho * rho))).ToScalar();
                return tensor(new[] { Math.Log(0.3), Math.Log(0.7) }).add(x.unsqueeze(-1).sub(means).Squared(), half).log_softmax(-1).select(-1, 1);
            },
            scale,
            exact);
        return request with { Field = field, Noise = full(1, start, ScalarType.Float64) };
    }
}
