using AdjointDpm.Gradients;
using AdjointDpm.Models.Unet;
using static TorchSharp.torch;

namespace AdjointDpm.Bench;

/// <summary>Attention plain and fused, and convolutions with channels first and last: processor time and memory of forward and gradient.</summary>
internal static class Kernels
{
    private const int Rounds = 5;

    public static void Run()
    {
        Console.WriteLine("| what | forward ms | with gradient ms | peak MB |");
        Console.WriteLine("|---|---|---|---|");
        foreach (var (pixels, channels) in new[] { (1024L, 320L), (4096L, 320L) })
        {
            foreach (var fused in new[] { false, true })
            {
                using var scope = NewDisposeScope();
                using var attention = new Attention(channels, channels, 8, channels / 8) { IsFused = fused };
                foreach (var parameter in attention.parameters())
                    parameter.requires_grad = false;
                Row($"attention, {pixels} pixels, {channels} channels, 8 heads, {(fused ? "fused" : "plain")}", randn(1, pixels, channels), x => attention.forward(x, x));
            }
        }

        foreach (var last in new[] { false, true })
        {
            using var scope = NewDisposeScope();
            using var weight = Laid(randn(320, 320, 3, 3), last);
            Row($"convolution 3 x 3, 320 channels, 64 x 64, channels {(last ? "last" : "first")}", Laid(randn(1, 320, 64, 64), last), x => nn.functional.conv2d(x, weight, padding: [1, 1]));
        }

        // The alternation of a residual block: a normalisation that wants channels first stands before each convolution.
        foreach (var last in new[] { false, true })
        {
            using var scope = NewDisposeScope();
            using var weight = Laid(randn(320, 320, 3, 3), last);
            Row($"normalisation, silu, convolution, channels {(last ? "last" : "first")}", Laid(randn(1, 320, 64, 64), last), x => nn.functional.conv2d(nn.functional.silu(nn.functional.group_norm(x, 32)), weight, padding: [1, 1]));
        }
    }

    // TorchSharp passes no memory format on: the strides of channels-last by a transposed copy.
    private static Tensor Laid(Tensor x, bool last) => last ? x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) : x;

    private static void Row(string name, Tensor x, Func<Tensor, Tensor> run)
    {
        var cotangent = run(x).detach();
        void Forward()
        {
            using var scope = NewDisposeScope();
            using var frozen = no_grad();
            run(x);
        }

        void Gradient()
        {
            using var scope = NewDisposeScope();
            Vjp.Of(run, x, cotangent);
        }

        var (forward, gradient) = (Least(Forward), Least(Gradient));
        var peak = Enumerable.Range(0, 3).Min(_ => HighWater.Of(Gradient));
        Console.WriteLine($"| {name} | {forward:f1} | {gradient:f1} | {peak / 1e6:f1} |");
    }

    private static double Least(Action work)
    {
        work();
        return Enumerable.Range(0, Rounds).Min(_ =>
        {
            var before = Environment.CpuUsage.TotalTime;
            work();
            return (Environment.CpuUsage.TotalTime - before).TotalMilliseconds;
        });
    }
}
