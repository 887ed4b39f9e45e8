using System.Runtime.CompilerServices;
using AdjointDpm.Formats;
using AdjointDpm.Gradients;
using AdjointDpm.Models.Unet;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Bench;

/// <summary>Time and memory of the gradient methods side by side, on one UNet.</summary>
internal static class GradientMethods
{
    private const int Rounds = 4;

    public static void Run(int[] stepCounts, int size)
    {
        using var scope = NewDisposeScope();
        var folder = Path.Combine(Path.GetDirectoryName(Here())!, "..", "tests", "AdjointDpm.Tests", "Reference", "unet_condition");
        using var unet = new UNet2DConditionModel(UNet2DConditionConfig.Read(Path.Combine(folder, "config.json")));
        ModuleWeights.Load(unet, Path.Combine(folder, "diffusion_pytorch_model.safetensors"));
        unet.eval();
        var context = CounterNoise.Normal(new(1), [1, 6, 32]);
        var field = NoiseField.From((x, t) => unet.call(x, full([x.shape[0]], t, ScalarType.Float32), context)).With("context", context).With("unet", unet);
        Console.WriteLine($"DDIM on a UNet of {unet.parameters().Sum(p => p.numel()) / 1e6:f2} million weights, 1 x 4 x {size} x {size}, float32, 1 thread; gradient of x_T, conditioning and all weights. Processor time, least of {Rounds} runs, one of each method in turn; peak memory by the kernel's high-water mark; ratios to store-all.");
        Console.WriteLine();
        Console.WriteLine("| steps | method | evaluations | forward ms | backward ms | time | peak MB | memory |");
        Console.WriteLine("|---|---|---|---|---|---|---|---|");
        foreach (var steps in stepCounts)
            Compare(field, steps, size);
    }

    private static void Compare(NoiseField field, int steps, int size)
    {
        var request = new SampleRequest { Field = field, Noise = CounterNoise.Normal(new(2), [1, 4, size, size]), Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, steps), Clock = new CpuClock() };
        var reversible = request with { Sampler = new ReversibleSampler(ButcherTableau.Euler) };
        (GradientMethod Method, SampleRequest Request)[] methods =
        [
            (GradientMethod.StoreAll, request),
            (GradientMethod.Discrete, request),
            (GradientMethod.Checkpointed(10), request),
            (GradientMethod.Checkpointed(3), request),
            (GradientMethod.Truncated(5), request),
            (GradientMethod.Reversible, reversible),
            (GradientMethod.Continuous(), request),
            (GradientMethod.AdjointDeis(2), request),
        ];
        var rounds = Enumerable.Range(0, Rounds).Select(_ => methods.Select(m => Cost(m.Request, m.Method)).ToArray()).ToArray();
        var peaks = methods.Select(m => HighWater.Supported ? HighWater.Of(() => Cost(m.Request with { Progress = HighWater.Collecting }, m.Method)) : 0).ToArray();
        var all = TimeSpan.Zero;
        for (var i = 0; i < methods.Length; i++)
        {
            var best = rounds.Select(r => r[i]).MinBy(Total)!;
            all = i == 0 ? Total(best) : all;
            Console.WriteLine($"| {steps} | {methods[i].Method} | {best.ForwardNfe} + {best.BackwardNfe} | {best.Forward.TotalMilliseconds:f0} | {best.Backward.TotalMilliseconds:f0} | {Total(best) / all:f2} | {peaks[i] / 1e6:f1} | {(double)peaks[i] / peaks[0]:f2} |");
        }
    }

    private static TimeSpan Total(SolveStatistics cost) => cost.Forward + cost.Backward;

    private static SolveStatistics Cost(SampleRequest request, GradientMethod method)
    {
        using var scope = NewDisposeScope();
        using var result = Sampling.Differentiate(request, x => x.mul(x).mean(), method);
        return result.Statistics;
    }

    private static string Here([CallerFilePath] string path = "") => path;
}
