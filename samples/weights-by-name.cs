// Which attention weights does the loss pull at hardest?
// dotnet run samples/weights-by-name.cs
#:project ../src/AdjointDpm/AdjointDpm.csproj
#:package TorchSharp-cpu
#:property PublishAot=false

using AdjointDpm.Gradients;
using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

var folder = DiffusersFolder.Open("examples/models/digits8-dpm");
using var unet = folder.LoadUNet2D();
using var judge = ClassifierFolder.Load("examples/models/digits8-classifier");
using var loss = new CrossEntropyLoss(judge, 3);
using var scope = NewDisposeScope();

var request = new SampleRequest
{
    // The pattern is matched against the full name; all other weights are held constant.
    Field = unet.Field(labels: tensor([5L, 8L])).With("unet", unet, "unet.*attentions*.weight"),
    Noise = CounterNoise.Normal(new NoiseKey(Seed: 3), [2, 1, 8, 8]),
    Grid = folder.ReadScheduler().Grid(steps: 20),
};
using var result = Sampling.Differentiate(request, loss.Mean);
Console.WriteLine($"{result.Inputs.Count} tensors of {unet.parameters().Count()} have a gradient; the largest:");
foreach (var (name, gradient) in result.Inputs.OrderByDescending(g => g.Value.norm().ToDouble()).Take(3))
    Console.WriteLine($"{name}: {gradient.norm().ToDouble():g3}");
