// Which steps have to be steered, and how little, for a digit to become another?
// dotnet run samples/step-controls.cs
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

const int steps = 10;
var folder = DiffusersFolder.Open("examples/models/digits8-dpm");
using var unet = folder.LoadUNet2D();
using var judge = ClassifierFolder.Load("examples/models/digits8-classifier");
using var loss = new CrossEntropyLoss(judge, 3);
using var scope = NewDisposeScope();
var label = tensor([8L]);
// FlowGrad: a control added to the predicted noise, one for each step.
var controls = Enumerable.Range(0, steps).Select(_ => zeros(1, 1, 8, 8)).ToArray();
var rate = tensor(-0.05f);

var request = new SampleRequest
{
    Field = NoiseField.From((x, t, n) => unet.call(x, tensor(t, ScalarType.Float32), label).add(controls[n])).Freeze(unet).With("u", controls),
    Noise = CounterNoise.Normal(new NoiseKey(Seed: 4), [1, 1, 8, 8]),
    Grid = folder.ReadScheduler().Grid(steps),
};
for (var round = 0; round <= 30; round++)
{
    using var result = Sampling.Differentiate(request, loss.Mean);
    if (round % 10 == 0)
        Console.WriteLine($"round {round}: -log p(3) = {result.Loss:f3}");
    for (var n = 0; n < steps; n++)
        controls[n].add_(result.Inputs[$"u[{n}]"].mul(rate));
}

Console.WriteLine($"norm of the control by step: {string.Join(" ", controls.Select(u => u.norm().ToDouble().ToString("f2")))}");
