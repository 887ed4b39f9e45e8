// What does it cost to store fewer states?
// dotnet run samples/few-checkpoints.cs
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
const int steps = 200;
var schedule = new LinearVp();

// Data N(0, 1/4): the network of a Gaussian is a number times x.
var request = new SampleRequest
{
    Field = NoiseField.From((x, t) => x.mul(tensor(Gain(schedule.At(t))))),
    Noise = CounterNoise.Normal(new NoiseKey(Seed: 1), [4, 16], ScalarType.Float64),
    Grid = TimeGrid.LogSnr(schedule, steps),
};
using var stored = Sampling.Differentiate(request, x0 => x0.norm());
Console.WriteLine($"all states: {stored.Statistics.PeakLiveTensors} tensors at once, {stored.Statistics.ForwardNfe + stored.Statistics.BackwardNfe} evaluations");
foreach (var slots in new[] { 20, 10, 4, 2 })
{
    using var result = Sampling.Differentiate(request, x0 => x0.norm(), GradientMethod.Checkpointed(slots));
    var same = result.Noise.equal(stored.Noise).all().item<bool>() ? "the same bits" : "other bits";
    Console.WriteLine($"{slots} slots: {result.Statistics.PeakLiveTensors} tensors, {result.Statistics.ForwardNfe + result.Statistics.BackwardNfe} evaluations ({CheckpointSchedule.Recomputed(steps, slots)} steps walked again), {same}");
}

static double Gain(NoiseLevel level) => level.Sigma / ((level.Alpha * level.Alpha / 4) + (level.Sigma * level.Sigma));
