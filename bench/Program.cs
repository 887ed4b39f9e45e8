// Time and memory of the gradient methods side by side, on one UNet and one machine: read the ratios, not the milliseconds.
// dotnet run --project bench -c Release -- [steps,steps,… [size]]        default: 5,10,20,40 and 16 x 16 latents
using System.Globalization;
using System.Runtime.CompilerServices;
using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Models.Unet;
using AdjointDpm.Native;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
NativeTorch.EnsureLoaded();
set_num_threads(1);
var stepCounts = args.Length > 0 ? args[0].Split(',').Select(int.Parse).ToArray() : [5, 10, 20, 40];
var size = args.Length > 1 ? int.Parse(args[1]) : 16;

using var scope = NewDisposeScope();
var folder = Path.Combine(Path.GetDirectoryName(Here())!, "..", "tests", "AdjointDpm.Tests", "Reference", "unet_condition");
using var unet = new UNet2DConditionModel(UNet2DConditionConfig.Read(Path.Combine(folder, "config.json")));
ModuleWeights.Load(unet, Path.Combine(folder, "diffusion_pytorch_model.safetensors"));
unet.eval();
var context = CounterNoise.Normal(new(1), [1, 6, 32]);
var field = NoiseField.From((x, t) => unet.call(x, full([x.shape[0]], t, ScalarType.Float32), context)).With("context", context).With("unet", unet);
var weights = unet.parameters().Sum(p => p.numel());

Console.WriteLine($"DDIM on a UNet of {weights / 1e6:f2} million weights, 1 x 4 x {size} x {size}, float32, 1 thread; gradient of x_T, conditioning and all weights. Processor time, least of four runs; ratios to store-all.");
Console.WriteLine();
Console.WriteLine("| steps | method | evaluations | forward ms | backward ms | time | peak MB | memory |");
Console.WriteLine("|---|---|---|---|---|---|---|---|");
foreach (var steps in stepCounts)
{
    var baseline = default(SolveStatistics);
    foreach (var method in new[] { GradientMethod.StoreAll, GradientMethod.Discrete, GradientMethod.Checkpointed((int)Math.Sqrt(steps)), GradientMethod.Continuous() })
    {
        var request = new SampleRequest { Field = field, Noise = CounterNoise.Normal(new(2), [1, 4, size, size]), Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps), Clock = new CpuClock() };
        var best = Enumerable.Range(0, 4).Select(_ => Cost(request, method)).MinBy(c => c.Forward + c.Backward)!;
        baseline ??= best;
        var (time, memory) = ((best.Forward + best.Backward) / (baseline.Forward + baseline.Backward), (double?)best.PeakLiveBytes / baseline.PeakLiveBytes);
        Console.WriteLine($"| {steps} | {method} | {best.ForwardNfe} + {best.BackwardNfe} | {best.Forward.TotalMilliseconds:f0} | {best.Backward.TotalMilliseconds:f0} | {time:f2} | {best.PeakLiveBytes / 1e6:f1} | {memory:f2} |");
    }
}

static SolveStatistics Cost(SampleRequest request, GradientMethod method)
{
    using var result = Sampling.Differentiate(request, x => x.square().mean(), method);
    return result.Statistics;
}

static string Here([CallerFilePath] string path = "") => path;

/// <summary>Processor time of this process, so that figures from a busy machine still mean something.</summary>
internal sealed class CpuClock : TimeProvider
{
    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override long GetTimestamp() => Environment.CpuUsage.TotalTime.Ticks;
}
