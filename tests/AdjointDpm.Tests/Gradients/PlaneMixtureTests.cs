using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Gradients;

/// <summary>A mixture of three Gaussians in the plane, whose noise and its derivatives are analytic: both adjoints against figures computed in plain Python from hand-written derivatives.</summary>
public sealed class PlaneMixtureTests
{
    private static readonly double[] Weights = [0.5, 0.3, 0.2], Variances = [0.1, 0.2, 0.05];

    internal static readonly double[] Means = [2, 0, -1.5, 1, 0, -2], Start = [0.4, -0.7], Target = [1, 1];

    [Theory]
    [InlineData("ddim", 20, "discrete", 1.229324887918936, new[] { 0.15977163012216342, -0.5854213780640668 }, new[] { 0.6555948439325584, -1.1984218543045029, -0.025749293286053118, -0.028459125983990453, 0.15416538949961744, -0.12649656135731857 })]
    [InlineData("ddim", 20, "continuous", 1.229324887918936, new[] { -0.0015658641623759167, -0.007364185876570091 }, new[] { 0.7039414768532904, -1.2916234718310602, -0.020100637920582396, -0.009062766991265946, 0.10123034451198078, -0.05649005566096196 })]
    [InlineData("heun", 10, "discrete", 1.3933491167844614, new[] { 0.3540164818055925, -0.5857463576027159 }, new[] { 0.8864456987992558, -1.2727430436293343, -0.01939642701621717, -0.00048358444862393944, 0.09275903074876928, -0.0869946778016049 })]
    [InlineData("heun", 10, "continuous", 1.3933491167844614, new[] { 0.34476551640660635, -0.5627195156197655 }, new[] { 0.8938234383585781, -1.2818365563466914, -0.010555565000374637, -0.005921247458195811, 0.07660122269288608, -0.07261482495847182 })]
    [InlineData("rk4-38", 10, "discrete", 1.2801208090782406, new[] { 0.24450088991192748, -0.5840526565665456 }, new[] { 0.7408264386059271, -1.2248346338083147, -0.016983076271518134, -0.01808708661661465, 0.13015119318407445, -0.10524106123089787 })]
    [InlineData("rk4-38", 10, "continuous", 1.2801208090782406, new[] { 0.2403153974751552, -0.5857702498873399 }, new[] { 0.7396951258566685, -1.2243510702533984, -0.017386656251605973, -0.018677883081446488, 0.13171359123899276, -0.10512254100791124 })]
    public void Differentiate_BothAdjoints_AgreesWithHandWrittenDerivatives(string sampler, int steps, string method, double loss, double[] ofNoise, double[] ofMeans)
    {
        using var scope = NewDisposeScope();
        using var half = 0.5.ToScalar();
        Tensor means = tensor(Means, ScalarType.Float64).reshape(3, 2), target = tensor(Target, ScalarType.Float64);
        var schedule = new LinearVp();
        var request = new SampleRequest
        {
            Field = NoiseField.From((x, t) => Noise(x, schedule.At(t), means)).With("means", means),
            Noise = tensor(Start, ScalarType.Float64).unsqueeze(0),
            Grid = TimeGrid.LogSnr(schedule, steps),
            Sampler = Sampler.Named(sampler),
        };
        using var result = Sampling.Differentiate(request, x => x.sub(target).Squared().sum().mul(half), method == "discrete" ? GradientMethod.Discrete : GradientMethod.Continuous(), TestContext.Current.CancellationToken);
        Assert.Equal(loss, result.Loss, 1e-10);
        Assert.All(result.Noise.data<double>().Zip(ofNoise), g => Assert.Equal(g.Second, g.First, 1e-10));
        Assert.All(result.Inputs["means"].data<double>().Zip(ofMeans), g => Assert.Equal(g.Second, g.First, 1e-10));
    }

    internal static Tensor Noise(Tensor x, NoiseLevel level, Tensor means)
    {
        var (a, s) = level;
        var v = Variances.Select(q => (a * a * q) + (s * s)).ToArray();
        using Scalar alpha = a.ToScalar(), half = (-0.5).ToScalar(), sigma = s.ToScalar();
        var variance = tensor(v, ScalarType.Float64);
        var toMean = means.mul(alpha).sub(x.unsqueeze(1));
        var prior = tensor(Weights.Zip(v, (w, q) => Math.Log(w) - Math.Log(q)).ToArray(), ScalarType.Float64);
        var posterior = prior.add(toMean.Squared().sum(-1).div(variance), half).softmax(-1);
        return posterior.div(variance).unsqueeze(-1).mul(toMean).sum(1).neg().mul(sigma);
    }
}
