// How far is the continuous adjoint from the gradient of the sampler that was really run, and what does each cost?
// dotnet run samples/adjoint-gap.cs
//
// A mixture of three Gaussians in the plane stands for the network: its noise is analytic, so steps are the only error.
// Loss: half the squared distance of the sample to (1, 1); gradients with respect to the initial noise and the mixture's means.
#:project ../src/AdjointDpm/AdjointDpm.csproj
#:package TorchSharp-cpu
#:property PublishAot=false

using AdjointDpm.Gradients;
using AdjointDpm.Native;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

NativeTorch.EnsureLoaded();
using var scope = NewDisposeScope();
using var half = 0.5.ToScalar();
var schedule = new LinearVp();
var means = tensor(new double[,] { { 2, 0 }, { -1.5, 1 }, { 0, -2 } });
var target = tensor(new double[] { 1, 1 });

Tensor Loss(Tensor x) => x.sub(target).square().sum().mul(half);

SampleRequest Request(Sampler sampler, int steps) => new()
{
    Field = NoiseField.From((x, t) => MixtureNoise(x, schedule.At(t))).With("means", means),
    Noise = tensor(new double[,] { { 0.4, -0.7 } }),
    Grid = TimeGrid.LogSnr(schedule, steps),
    Sampler = sampler,
};

Console.WriteLine("Continuous against discrete adjoint: cosine and norm ratio of the gradient with respect to the initial noise, relative error of the one with respect to the means.");
Console.WriteLine();
Console.WriteLine("| sampler | steps | evaluations forward + backward | cosine | norm ratio | error, means |");
Console.WriteLine("|---|---|---|---|---|---|");
foreach (var sampler in new[] { Sampler.Ddim, Sampler.Heun, Sampler.Rk4 })
{
    foreach (var steps in new[] { 10, 20, 40, 80, 160 })
    {
        using var discrete = Sampling.Differentiate(Request(sampler, steps), Loss);
        using var continuous = Sampling.Differentiate(Request(sampler, steps), Loss, GradientMethod.Continuous());
        var agreement = GradientCheck.Compare(continuous, discrete);
        var cost = discrete.Statistics;
        Console.WriteLine(FormattableString.Invariant($"| {sampler.Name} | {steps} | {cost.ForwardNfe} + {cost.BackwardNfe} | {agreement[0].Cosine:f4} | {agreement[0].NormRatio:f3} | {agreement[1].RelativeError:0.0e+0} |"));
    }
}

var unrolled = GradientCheck.Run(Request(Sampler.Heun, 40), Loss, GradientMethod.Discrete);
Console.WriteLine();
Console.WriteLine(FormattableString.Invariant($"Discrete adjoint against automatic differentiation through the sampler (heun, 40 steps): largest relative error {unrolled.Max(a => a.RelativeError):0.0e+0}."));

Tensor MixtureNoise(Tensor x, NoiseLevel level)
{
    double[] weights = [0.5, 0.3, 0.2], variances = [0.1, 0.2, 0.05];
    var (a, s) = level;
    var v = variances.Select(q => (a * a * q) + (s * s)).ToArray();
    using Scalar alpha = a.ToScalar(), minusHalf = (-0.5).ToScalar(), sigma = s.ToScalar();
    var variance = tensor(v);
    var toMean = means.mul(alpha).sub(x.unsqueeze(1));
    var prior = tensor(weights.Zip(v, (w, q) => Math.Log(w) - Math.Log(q)).ToArray());
    var posterior = prior.add(toMean.square().sum(-1).div(variance), minusHalf).softmax(-1);
    return posterior.div(variance).unsqueeze(-1).mul(toMean).sum(1).neg().mul(sigma);
}
