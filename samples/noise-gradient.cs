// Which way should the initial noise move so that the finished sample looks more like the digit asked for?
// dotnet run samples/noise-gradient.cs
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

var folder = DiffusersFolder.Open("examples/models/mnist-dpm");
using var unet = folder.LoadUNet2D();
using var judge = ClassifierFolder.Load("examples/models/mnist-classifier");
using var loss = new CrossEntropyLoss(judge, 3);

var request = new SampleRequest
{
    Field = unet.Field(labels: torch.tensor([3L]), guidance: 2).Freeze(unet),
    Noise = CounterNoise.Normal(new NoiseKey(Seed: 7), [1, 1, 28, 28]),
    Grid = folder.ReadScheduler().Grid(steps: 10),
    Sampler = Sampler.Ddim,
};
using var result = Sampling.Differentiate(request, x0 => loss.Mean(x0), GradientMethod.Discrete);
Console.WriteLine($"-log p(3 | sample) = {result.Loss:g4}; norm of its gradient at the noise = {result.Noise.norm().ToDouble():g4}; "
    + $"{result.Statistics.ForwardNfe} + {result.Statistics.BackwardNfe} evaluations");
