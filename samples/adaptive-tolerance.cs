// How many evaluations does a tolerance cost, and is the gradient still that of the sampler?
// dotnet run samples/adaptive-tolerance.cs
#:project ../src/AdjointDpm/AdjointDpm.csproj
#:package TorchSharp-cpu
#:property PublishAot=false

using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

var folder = DiffusersFolder.Open("examples/models/digits8-dpm");
using var unet = folder.LoadUNet2D();
using var scope = NewDisposeScope();
foreach (var tolerance in new[] { 1e-1, 1e-2, 1e-3 })
{
    var request = new SampleRequest
    {
        Field = unet.Field(labels: tensor([3L])).Freeze(unet),
        Noise = CounterNoise.Normal(new NoiseKey(Seed: 5), [1, 1, 8, 8]),
        // Start and end are enough: the sampler chooses what lies between.
        Grid = TimeGrid.LogSnr(folder.ReadScheduler().Grid(steps: 1).Schedule, steps: 1),
        Sampler = new AdaptiveSampler(ButcherTableau.Dopri5, new StepControl { Relative = tolerance, Absolute = tolerance }),
    };
    using var result = Sampling.Differentiate(request, x0 => x0.mean());
    var cost = result.Statistics;
    var agreement = GradientCheck.Run(request, x0 => x0.mean(), GradientMethod.Discrete)[0];
    Console.WriteLine($"tolerance {tolerance}: {cost.Steps} steps, {cost.Rejected} rejected, {cost.ForwardNfe} + {cost.BackwardNfe} evaluations; cosine to the unrolled gradient {agreement.Cosine:f4}");
}
