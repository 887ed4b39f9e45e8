// Where on the way from noise to digit is the loss decided?
// dotnet run samples/losses-on-the-way.cs
#:project ../src/AdjointDpm/AdjointDpm.csproj
#:package TorchSharp-cpu
#:property PublishAot=false

using System.Collections.Immutable;
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
using var three = new CrossEntropyLoss(judge, 3);
using var scope = NewDisposeScope();
var small = tensor(1e-3f);

var request = new SampleRequest
{
    Field = unet.Field(labels: tensor([8L])).Freeze(unet),
    Noise = CounterNoise.Normal(new NoiseKey(Seed: 2), [1, 1, 8, 8]),
    Grid = folder.ReadScheduler().Grid(steps: 8),
};
var objective = new Objective
{
    OnSample = three.Mean,
    // A penalty on the state half-way, by grid point; it enters the adjoint as a jump.
    OnStates = ImmutableSortedDictionary<int, Func<Tensor, Tensor>>.Empty.Add(4, x => x.square().sum().mul(small)),
    KeepStateGradients = true,
};
using var result = Sampling.Differentiate(request, objective);
Console.WriteLine($"loss {result.Loss:f3}; norm of its gradient by the state at each point, noise first: {string.Join(" ", result.States.Select(g => g.norm().ToDouble().ToString("f3")))}");
