using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>The seam between tensors and bytes: fp32, little-endian, one tensor after another.</summary>
internal static class TorchBytes
{
    /// <summary>Numbers in all tensors together.</summary>
    public static int Count(IEnumerable<Tensor> tensors) => checked((int)tensors.Sum(tensor => tensor.numel()));

    /// <summary>Copies tensors out, whatever their dtype and device.</summary>
    public static byte[] Read(IReadOnlyList<Tensor> tensors)
    {
        var bytes = new byte[checked(Count(tensors) * sizeof(float))];
        var at = 0;
        foreach (var tensor in tensors)
        {
            using var scope = NewDisposeScope();
            var host = tensor.detach().to(ScalarType.Float32).cpu().contiguous();
            host.bytes.CopyTo(bytes.AsSpan(at));
            at += checked((int)tensor.numel() * sizeof(float));
            GC.KeepAlive(host);
        }
        return bytes;
    }

    /// <summary>Copies bytes in.</summary>
    public static void Write(ReadOnlySpan<byte> bytes, IReadOnlyList<Tensor> tensors)
    {
        if (bytes.Length != Count(tensors) * sizeof(float))
            throw new InvalidDataException($"The parameters have {bytes.Length / sizeof(float)} numbers, but the model trains {Count(tensors)}. The model or train.include has changed since the trial began.");
        using var frozen = no_grad();
        var at = 0;
        foreach (var target in tensors)
        {
            using var scope = NewDisposeScope();
            var length = checked((int)target.numel() * sizeof(float));
            var numbers = MemoryMarshal.Cast<byte, float>(bytes.Slice(at, length)).ToArray();
            target.copy_(tensor(numbers).reshape(target.shape));
            at += length;
        }
    }
}
