// Which tokens of the conditioning does the sample hang on?
// dotnet run samples/conditioning-gradient.cs
#:project ../src/AdjointDpm/AdjointDpm.csproj
#:package TorchSharp-cpu
#:property PublishAot=false

using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

// A small network of Stable Diffusion's kind: 4 latent channels, 6 tokens of 32 numbers, random weights.
const string folder = "tests/AdjointDpm.Tests/Reference/unet_condition";
using var unet = new UNet2DConditionModel(UNet2DConditionConfig.Read($"{folder}/config.json"));
ModuleWeights.Load(unet, $"{folder}/diffusion_pytorch_model.safetensors");
unet.eval();
using var scope = NewDisposeScope();
var prompt = CounterNoise.Normal(new NoiseKey(Seed: 1), [1, 6, 32]);
var empty = zeros(1, 6, 32);

var request = new SampleRequest
{
    Field = unet.Field(prompt, unconditional: empty, guidance: 7.5).Freeze(unet).With("prompt", prompt).With("empty", empty),
    Noise = CounterNoise.Normal(new NoiseKey(Seed: 2), [1, 4, 16, 16]),
    Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps: 10),
    Sampler = Sampler.DpmSolver2M,
};
using var result = Sampling.Differentiate(request, x0 => x0.abs().mean());
foreach (var name in new[] { "prompt", "empty" })
    Console.WriteLine($"{name}: gradient norm by token {string.Join("  ", result.Inputs[name][0].norm(dim: 1, keepdim: false).data<float>().Select(n => n.ToString("0.0e+0")))}");
