// How far is the continuous adjoint from the gradient of the sampler that was really run, and what does each cost?
// dotnet run samples/adjoint-gap.cs
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
var schedule = new LinearVp();
// Three Gaussians in the plane stand for the network: their noise is analytic, so steps are the only error.
Tensor means = tensor(new double[,] { { 2, 0 }, { -1.5, 1 }, { 0, -2 } }), weights = tensor([0.5, 0.3, 0.2]), variances = tensor([0.1, 0.2, 0.05]);
Tensor target = tensor([1.0, 1.0]), half = tensor(0.5);

SampleRequest Request(Sampler sampler, int steps) => new()
{
    Field = NoiseField.From((x, t) => Noise(x, schedule.At(t))).With("means", means),
    Noise = tensor(new[,] { { 0.4, -0.7 } }),
    Grid = TimeGrid.LogSnr(schedule, steps),
    Sampler = sampler,
};

Tensor Loss(Tensor x) => x.sub(target).square().sum().mul(half);

foreach (var sampler in new[] { Sampler.Ddim, Sampler.Heun, Sampler.Rk4 })
{
    foreach (var steps in new[] { 20, 80, 160 })
    {
        using var continuous = Sampling.Differentiate(Request(sampler, steps), Loss, GradientMethod.Continuous());
        using var discrete = Sampling.Differentiate(Request(sampler, steps), Loss);
        var (noise, cost) = (GradientCheck.Compare(continuous, discrete)[0], discrete.Statistics);
        Console.WriteLine($"{sampler.Name}, {steps} steps, {cost.ForwardNfe} + {cost.BackwardNfe} evaluations either way: cosine {noise.Cosine:f4}, norm ratio {noise.NormRatio:f3}");
    }
}

Tensor Noise(Tensor x, NoiseLevel level)
{
    var (a, s) = level;
    var v = variances.mul(tensor(a * a)).add(tensor(s * s));
    var toMean = means.mul(tensor(a)).sub(x.unsqueeze(1));
    var posterior = weights.log().sub(v.log()).sub(toMean.square().sum(-1).div(v).mul(half)).softmax(-1);
    return posterior.div(v).unsqueeze(-1).mul(toMean).sum(1).mul(tensor(-s));
}
