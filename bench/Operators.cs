using static TorchSharp.torch;

namespace AdjointDpm.Bench;

/// <summary>The operators that the UNet spends its time in, each alone: what of a ratio is the kernels' and not the solver's.</summary>
internal static class Operators
{
    private const int Repeats = 40;

    /// <summary>Name, by which PyTorch's side knows it too, and what to print.</summary>
    public static (string Name, string Title)[] All { get; } =
        [("matmul", "matrix product, 512 x 512"), ("convolution", "3 x 3 convolution, 128 channels, 16 x 16, with its gradient"), ("attention", "attention, 4 heads, 1024 x 32, with its gradient"), ("norm", "group norm and SiLU, 128 channels, 16 x 16, with its gradient")];

    /// <summary>Processor seconds of one application.</summary>
    public static double Seconds(string name, TimeProvider clock)
    {
        using var scope = NewDisposeScope();
        var (square, map, sequence) = (randn(512, 512), randn(1, 128, 16, 16).requires_grad_(), randn(1, 4, 1024, 32).requires_grad_());
        var weight = randn(128, 128, 3, 3).requires_grad_();
        var start = clock.GetTimestamp();
        for (var i = 0; i < Repeats; i++)
        {
            using var inner = NewDisposeScope();
            switch (name)
            {
                case "matmul":
                    square.matmul(square);
                    break;
                case "convolution":
                    nn.functional.conv2d(map, weight, padding: [1L, 1L]).sum().backward();
                    break;
                case "attention":
                    sequence.matmul(sequence.transpose(-1, -2)).softmax(-1).matmul(sequence).sum().backward();
                    break;
                default:
                    nn.functional.silu(nn.functional.group_norm(map, 32)).sum().backward();
                    break;
            }
        }

        return clock.GetElapsedTime(start).TotalSeconds / Repeats;
    }
}
