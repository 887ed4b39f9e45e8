using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;
using AdjointDpm.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Native;

/// <summary>Which last bits a device gives: two devices of one kind gave the same bits in all of some sixty small computations.</summary>
/// <remarks>
/// libtorch and the libraries under it choose their kernels by the processor, by environment variables and by what <see cref="NativeTorch"/> had to switch off, so that
/// equal programs round differently on unlike machines: docs/decisions/0005-unlike-machines.md. Products, convolutions with their gradients, reductions, normalisations,
/// attention and elementary functions are computed here in float32, with one thread, and hashed together with libtorch's version and a GPU's name.
/// </remarks>
public static class ArithmeticKind
{
    /// <summary>Hexadecimal digits of a kind.</summary>
    public const int Length = 12;

    private static readonly ConcurrentDictionary<string, string> Known = new();

    /// <summary>The kind of a device, computed once for a process.</summary>
    /// <param name="device">Device, such as <c>cpu:0</c> or <c>cuda:1</c>. All processors of a host are one.</param>
    /// <returns>Lower-case hexadecimal digits; null where libtorch finds no such device.</returns>
    /// <exception cref="NativeLoadException">libtorch cannot be loaded.</exception>
    public static string? Of(string device)
    {
        NativeTorch.EnsureLoaded();
        if (!device.StartsWith("cuda", StringComparison.Ordinal))
            return Known.GetOrAdd("cpu", _ => Compute(CPU));
        return cuda.is_available() && torch.device(device) is var gpu && gpu.index < cuda.device_count() ? Known.GetOrAdd(device, _ => Compute(gpu)) : null;
    }

    internal static string Compute(Device device)
    {
        using var scope = NewDisposeScope();
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var threads = get_num_threads();
        set_num_threads(1);
        try
        {
            hash.AppendData(Encoding.UTF8.GetBytes($"{__version__} {device.type} {Environment.GetEnvironmentVariable(NativeTorch.RepeatableVariable)}"));
            // In float64 one machine need not agree with itself, unless it was asked to: decision 6.
            foreach (var result in ConvolutionCheck.Results(device, ScalarType.Float32).Concat(Results(device, ScalarType.Float32)))
                using (result)
                    hash.AppendData(result.detach().cpu().contiguous().bytes);
        }
        finally
        {
            set_num_threads(threads);
        }
        return Convert.ToHexStringLower(hash.GetHashAndReset())[..Length];
    }

    internal static IEnumerable<Tensor> Results(Device device, ScalarType dtype)
    {
        // Sizes that fill the blocks of vectorised kernels and such that do not.
        foreach (var (rows, inner, columns) in new (long, long, long)[] { (1, 64, 10), (33, 65, 47), (128, 256, 192), (7, 1000, 5) })
            yield return Wave(rows, inner).matmul(Wave(inner, columns));
        yield return Wave(4, 17, 64).matmul(Wave(4, 64, 19));
        var x = Wave(16, 24, 9, 9);
        yield return x.sum();
        yield return x.mean([0, 2, 3]);
        yield return x.Squared().sum([1]);
        yield return nn.functional.softmax(x, -1);
        yield return nn.functional.group_norm(x, 4);
        yield return nn.functional.layer_norm(x, [9, 9]);
        yield return nn.functional.silu(x);
        yield return nn.functional.gelu(x);
        foreach (var function in new Func<Tensor, Tensor>[] { exp, sin, cos, tanh, sigmoid, erf, log1p })
            yield return function(x.Times(0.9));
        var (query, key, value) = (Wave(2, 4, 50, 16), Wave(2, 4, 77, 16), Wave(2, 4, 77, 16));
        yield return nn.functional.scaled_dot_product_attention(query, key, value);

        Tensor Wave(params long[] shape) => ConvolutionCheck.Wave(shape, 0.7).to(dtype).to(device);
    }
}
