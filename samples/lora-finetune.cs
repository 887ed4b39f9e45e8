// Can a LoRA make a model of digits draw threes, whatever class it is asked for?
// dotnet run samples/lora-finetune.cs
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
using var threes = new CrossEntropyLoss(judge, 3);
using var scope = NewDisposeScope();
using var lora = new Lora(unet, name => name.Contains("attentions"), rank: 4);
var field = lora.WeightNames.Zip(lora.Weights).Aggregate(unet.Field(labels: arange(10)).Freeze(unet), (f, w) => f.With(w.First, w.Second));
// Detached tensors share their memory, so the optimiser's updates are the adapters'.
var parameters = lora.Parameters.Select(p => new TorchSharp.Modules.Parameter(p.Value.detach())).ToArray();
using var optimizer = optim.Adam(parameters, lr: 0.03);

for (var step = 0; step <= 20; step++)
{
    lora.Fold();
    var request = new SampleRequest
    {
        Field = field,
        Noise = CounterNoise.Normal(new NoiseKey(Seed: 1, Step: (uint)step), [10, 1, 8, 8]),
        Grid = folder.ReadScheduler().Grid(steps: 8),
    };
    using var result = Sampling.Differentiate(request, threes.Mean);
    var gradients = lora.Gradients([.. lora.WeightNames.Select(name => result.Inputs[name])]);
    foreach (var (parameter, gradient) in parameters.Zip(gradients))
        parameter.grad = gradient;
    optimizer.step();
    if (step % 5 == 0)
        Console.WriteLine($"step {step}: -log p(3) = {result.Loss:f2}");
}

Directory.CreateDirectory("runs");
lora.Save("runs/threes-lora.safetensors");
