// How does a training loop of one's own, with loss.backward(), go through a sampler?
// dotnet run samples/training-loop.cs
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
using var outer = NewDisposeScope();

// x_T is computed from a code of eight numbers by a linear map; both are trained, through twenty steps of the sampler, together.
manual_seed(1);
using var map = nn.Linear(8, 64);
var code = nn.Parameter(randn(4, 8));
using var optimizer = optim.Adam([.. map.parameters(), code], 0.05);
var grid = folder.ReadScheduler().Grid(steps: 20);

for (var step = 0; step <= 20; step++)
{
    using var scope = NewDisposeScope();
    optimizer.zero_grad();
    using var drawn = DifferentiableSample.Draw(new SampleRequest
    {
        Field = unet.Field(labels: tensor([8L, 8L, 8L, 8L])).Freeze(unet),
        Noise = map.forward(code).view(4, 1, 8, 8),
        Grid = grid,
    });
    var value = loss.Mean(drawn.Sample);
    drawn.Backward(value);
    optimizer.step();
    if (step % 10 == 0)
        Console.WriteLine($"step {step}: -log p(3) = {value.ToSingle():f2}; gradient norm of the code {code.grad!.norm().ToSingle():f2}");
}
