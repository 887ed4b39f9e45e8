// What is lost when the classifier's second derivative is left out of a guided gradient?
// dotnet run samples/classifier-guidance.cs
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

// Two clusters at -1 and 1, each of variance 1/25; p(right | x) is then a logistic function of x. The network knows one wide Gaussian.
Tensor LogRight(Tensor x, double time)
{
    var (a, s) = schedule.At(time);
    return nn.functional.logsigmoid(x.mul(tensor(2 * a / ((a * a * 0.04) + (s * s))))).sum(-1);
}

SampleRequest Guided(bool exact) => new()
{
    Field = NoiseField.From((x, t) => x.mul(tensor(Gain(schedule.At(t))))).WithClassifier(LogRight, scale: 2, exact),
    Noise = CounterNoise.Normal(new NoiseKey(Seed: 1), [8, 1], ScalarType.Float64),
    Grid = TimeGrid.LogSnr(schedule, 40),
    Sampler = Sampler.Heun,
};

Tensor Loss(Tensor x) => x.sin().sum();
var direction = ones(8, 1, dtype: ScalarType.Float64);
var truth = GradientCheck.FiniteDifference(Guided(exact: true), Loss, GradientCheck.NoiseName, direction);
foreach (var exact in new[] { true, false })
{
    using var result = Sampling.Differentiate(Guided(exact), Loss);
    Console.WriteLine($"{(exact ? "with" : "without")} the Hessian: slope {result.Noise.sum().ToDouble():f6}, finite difference {truth:f6}");
}

static double Gain(NoiseLevel level) => level.Sigma / (level.Alpha * level.Alpha + level.Sigma * level.Sigma);
