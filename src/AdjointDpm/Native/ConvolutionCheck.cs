using AdjointDpm.Gradients;
using AdjointDpm.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Native;

/// <summary>Compares this machine's float32 convolutions and their gradients with float64, once, before anything is computed with them.</summary>
/// <remarks>
/// oneDNN writes its kernels for the processor that it believes to see. On a virtual machine that hides parts of its processor they were seen to be wrong, without a word:
/// docs/decisions/0003-convolutions-are-checked.md. Proofs of gradients do not notice, since they are in float64, which oneDNN does not compute.
/// </remarks>
internal static class ConvolutionCheck
{
    /// <summary>Rounding is some 1e-6; a kernel that is wrong is wrong by tens of per cent.</summary>
    public const double Tolerance = 1e-3;

    // Channels that fill blocks of 8 and 16 and such that do not; what UNets, decoders and classifiers begin and end with.
    private static readonly (int Batch, int In, int Out, int Size, int Kernel, int Stride)[] Cases =
    [
        (2, 32, 1, 8, 3, 1), (2, 1, 24, 12, 3, 1), (2, 24, 24, 8, 3, 1), (2, 32, 32, 8, 3, 1), (2, 24, 40, 8, 3, 2), (2, 32, 3, 8, 3, 1), (16, 24, 40, 8, 1, 1), (1, 4, 32, 80, 3, 1), (2, 3, 8, 9, 5, 1),
    ];

    /// <summary>Makes convolutions right: by oneDNN where it is, else without it.</summary>
    /// <returns>A sentence for the log when oneDNN was switched off; else null.</returns>
    /// <exception cref="NativeLoadException">They are wrong without it as well.</exception>
    public static string? Ensure()
    {
        if (Worst() is not { } wrong)
            return null;
        if (!LibtorchSettings.UseOneDnn(false))
            throw new NativeLoadException($"libtorch computes wrong convolutions on this machine ({wrong}), and has no switch for oneDNN, which computes them. Use another machine, or set ONEDNN_MAX_CPU_ISA=SSE41 in the environment of the process.");
        if (Worst() is { } still)
            throw new NativeLoadException($"libtorch computes wrong convolutions on this machine, without oneDNN as well ({still}). Nothing that is computed here can be trusted: use another machine.");
        return $"oneDNN computes wrong convolutions on this machine ({wrong}): it is switched off, and libtorch's own are used, which take about half as long again.";
    }

    /// <summary>The worst of all cases when it is beyond rounding; else null.</summary>
    public static string? Worst()
    {
        using var scope = NewDisposeScope();
        var (worst, said) = (Tolerance, (string?)null);
        foreach (var one in Cases)
        {
            var wide = Run(one, CPU, ScalarType.Float64);
            foreach (var (what, single) in Run(one, CPU, ScalarType.Float32))
            {
                var error = RelativeError(single, wide[what]);
                if (error <= worst)
                    continue;
                (worst, said) = (error, FormattableString.Invariant($"{one.In} to {one.Out} channels, {one.Size}x{one.Size}, kernel {one.Kernel}, {what}: {(double.IsFinite(error) ? $"{100 * error:f0} % off" : "not finite")}"));
            }
        }
        return said;
    }

    /// <summary>Outputs and gradients of all cases.</summary>
    public static IEnumerable<Tensor> Results(Device device, ScalarType dtype) => Cases.SelectMany(one => Run(one, device, dtype).Values);

    private static Dictionary<string, Tensor> Run((int Batch, int In, int Out, int Size, int Kernel, int Stride) one, Device device, ScalarType dtype)
    {
        using var grad = enable_grad();
        // Numbers without a generator: nobody's seed is used up.
        var (x, w, b) = (Wave([one.Batch, one.In, one.Size, one.Size], 0.7), Wave([one.Out, one.In, one.Kernel, one.Kernel], 1.3), Wave([one.Out], 2.1));
        Tensor[] inputs = [.. new[] { x, w, b }.Select(tensor => tensor.to(dtype).to(device).detach().requires_grad_())];
        var y = nn.functional.conv2d(inputs[0], inputs[1], inputs[2], [one.Stride, one.Stride], [one.Kernel / 2, one.Kernel / 2]);
        Vjp.Accumulate(y, Wave(y.shape, 0.9).to(dtype).to(device), inputs);
        return new() { ["output"] = y.detach(), ["gradient of the input"] = inputs[0].grad!, ["gradient of the weights"] = inputs[1].grad!, ["gradient of the bias"] = inputs[2].grad! };
    }

    private static double RelativeError(Tensor single, Tensor wide)
    {
        var (difference, scale) = (single.to(ScalarType.Float64).Plus(wide.neg()).abs().max().Number(), wide.abs().max().Number());
        return difference / scale is var error && double.IsNaN(error) ? double.PositiveInfinity : error;
    }

    /// <summary>Smooth numbers of both signs, float64.</summary>
    public static Tensor Wave(long[] shape, double frequency)
    {
        var values = new double[shape.Aggregate(1L, (a, b) => a * b)];
        for (var i = 0; i < values.Length; i++)
            values[i] = Math.Sin(frequency * (i + 1));
        return tensor(values, dtype: ScalarType.Float64).reshape(shape);
    }
}
