// Can a model of all digits be turned into one of threes without a gradient through the sampler?
// dotnet run samples/adjoint-matching.cs
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
using UNet2DModel tuned = folder.LoadUNet2D(), before = folder.LoadUNet2D();
using var judge = ClassifierFolder.Load("examples/models/digits8-classifier");
using var threes = new CrossEntropyLoss(judge, 3);
using var scope = NewDisposeScope();
using var lora = new Lora(tuned, name => name.Contains("attentions"), rank: 4);
// The class that was trained without one: any digit.
var any = full(10, tuned.Config.NumClassEmbeds!.Value - 1, ScalarType.Int64);
var field = lora.WeightNames.Zip(lora.Weights).Aggregate(tuned.Field(any).Freeze(tuned), (f, w) => f.With(w.First, w.Second));
var matching = new AdjointMatching { BaseField = before.Field(any), RewardScale = 1 };
var parameters = lora.Parameters.Select(p => new TorchSharp.Modules.Parameter(p.Value.detach())).ToArray();
using var optimizer = optim.Adam(parameters, lr: 0.02);

for (var step = 0; step <= 20; step++)
{
    lora.Fold();
    var key = new NoiseKey(Seed: 1, Step: (uint)step);
    var request = new SampleRequest
    {
        Field = field,
        Noise = CounterNoise.Normal(key, [10, 1, 8, 8]),
        Grid = folder.ReadScheduler().Grid(steps: 8),
        Sampler = Sampler.Ddpm,
        Key = key,
    };
    using var result = matching.Differentiate(request, x => threes.PerSample(x).neg());
    var gradients = lora.Gradients([.. lora.WeightNames.Select(name => result.Inputs[name])]);
    foreach (var (parameter, gradient) in parameters.Zip(gradients))
        parameter.grad = gradient;
    optimizer.step();
    if (step % 5 == 0)
        Console.WriteLine($"step {step}: -log p(3) = {-result.Rewards.mean().ToDouble():f2}, threes {result.Rewards.data<float>().Count(r => r > Math.Log(0.5))} of 10, divergence {result.Divergence:f2}");
}
