// Is the gradient through this diffusers folder right? Takes a folder: dotnet run samples/check-folder.cs -- FOLDER
// dotnet run samples/check-folder.cs
#:project ../src/AdjointDpm/AdjointDpm.csproj
#:package TorchSharp-cpu
#:property PublishAot=false

using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

var folder = DiffusersFolder.Open(args.FirstOrDefault() ?? "examples/models/digits8-dpm");
using var unet = folder.LoadUNet2D();
using var scope = NewDisposeScope();
// Double leaves only the method's own errors: float32 hides them below its seven digits.
unet.to(float64);
var config = unet.Config;
var size = config.SampleSize?.Values[0] ?? 32;
var request = new SampleRequest
{
    Field = (config.NumClassEmbeds is null ? unet.Field() : unet.Field(labels: tensor([0L]))).With("unet", unet, "unet.conv_in.*"),
    Noise = CounterNoise.Normal(new NoiseKey(Seed: 1), [1, config.InChannels, size, size], ScalarType.Float64),
    Grid = folder.ReadScheduler().Grid(steps: 5),
    Sampler = folder.ReadScheduler().Sampler(),
};
foreach (var method in new[] { GradientMethod.Discrete, GradientMethod.Checkpointed(2), GradientMethod.Truncated(2) })
{
    foreach (var a in GradientCheck.Run(request, x0 => x0.sin().mean(), method))
        Console.WriteLine($"{method}, {a.Name}: cosine {a.Cosine:f6}, norm ratio {a.NormRatio:f6} to the unrolled gradient");
}
