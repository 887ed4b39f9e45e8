// Is a reward of my own fit for gradients, and what does it do to a digit's noise?
// dotnet run samples/own-reward.cs
#:project ../src/AdjointDpm/AdjointDpm.csproj
#:package TorchSharp-cpu
#:property PublishAot=false

using AdjointDpm.Gradients;
using AdjointDpm.Losses;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

var folder = DiffusersFolder.Open("examples/models/mnist-dpm");
using var unet = folder.LoadUNet2D();
using var scope = NewDisposeScope();
var request = new SampleRequest
{
    Field = unet.Field(labels: tensor([7L]), guidance: 2).Freeze(unet),
    Noise = CounterNoise.Normal(new NoiseKey(Seed: 3), [2, 1, 28, 28]),
    Grid = folder.ReadScheduler().Grid(steps: 10),
};

var loss = new Slant();
using var drawn = Sampling.Sample(request);
var report = RewardCheck.Run(loss, drawn.Sample);
Console.WriteLine($"fit: {report.Passed}; losses {report.Lowest:f3} to {report.Highest:f3}, norm of the gradient {report.GradientNorm:f3}");
using var result = Sampling.Differentiate(request, loss.Mean);
Console.WriteLine($"norm of the gradient at the noise {result.Noise.norm().ToDouble():f4}");

// Ink above the diagonal less ink below it: one value for each sample, of that sample alone.
sealed class Slant : SampleLoss
{
    private readonly Tensor _weight = (ones(28, 28).triu() - ones(28, 28).tril()).DetachFromDisposeScope();

    public override Tensor PerSample(Tensor samples)
    {
        using var inner = NewDisposeScope();
        return samples.mul(_weight.to(samples.dtype, samples.device)).mean([1, 2, 3]).MoveToOuterDisposeScope();
    }
}
