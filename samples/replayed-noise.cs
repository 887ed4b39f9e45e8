// Does a stochastic sampler have a gradient? With its draws held, yes: they replay by key.
// dotnet run samples/replayed-noise.cs
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
var mean = tensor(0.5);

// Data N(mean, 1/4), whose network is known; the mean stands for a weight.
SampleRequest Request(ulong seed) => new()
{
    Field = NoiseField.From((x, t) => Noise(x, schedule.At(t))).With("mean", mean),
    Noise = CounterNoise.Normal(new NoiseKey(Seed: 1), [6, 1], ScalarType.Float64),
    Grid = TimeGrid.LogSnr(schedule, 50),
    Sampler = Sampler.StochasticDpmSolver2M,
    Key = new NoiseKey(seed),
};

using var first = Sampling.Differentiate(Request(seed: 7), x0 => x0.square().mean());
using var again = Sampling.Differentiate(Request(seed: 7), x0 => x0.square().mean());
using var other = Sampling.Differentiate(Request(seed: 8), x0 => x0.square().mean());
var difference = GradientCheck.FiniteDifference(Request(seed: 7), x0 => x0.square().mean(), "mean", tensor(1.0));
Console.WriteLine($"seed 7: loss {first.Loss:f6}, gradient of the mean {first.Inputs["mean"].ToDouble():f6}, finite difference with the draws held {difference:f6}");
Console.WriteLine($"seed 7 again: {(first.Sample.equal(again.Sample).all().item<bool>() ? "the same bits" : "other bits")}");
Console.WriteLine($"seed 8: loss {other.Loss:f6}, gradient of the mean {other.Inputs["mean"].ToDouble():f6}");

Tensor Noise(Tensor x, NoiseLevel level)
{
    var (a, s) = level;
    return x.sub(mean.mul(tensor(a))).mul(tensor(s / ((a * a / 4) + (s * s))));
}
