using System.Buffers;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>A run of bytes on its way between silos. The receiver disposes it; what it saw must not be used afterwards.</summary>
/// <remarks>
/// A chunk made by <see cref="View"/> leaves the memory with its owner, so that a call within one silo, which passes the very same
/// object, cannot end the owner's buffer. A chunk that came over the wire lives in a rented array, which <see cref="Dispose"/> returns.
/// </remarks>
internal sealed class TensorChunk : IDisposable
{
    /// <summary>Largest chunk that is sent or accepted: long enough for throughput, short enough that probes on the same connection pass.</summary>
    public const int MaxLength = 1 << 20;

    private byte[]? _rented;
    private ReadOnlyMemory<byte> _memory;

    private TensorChunk(byte[]? rented, ReadOnlyMemory<byte> memory) => (_rented, _memory) = (rented, memory);

    public ReadOnlyMemory<byte> Memory => _memory;

    public static TensorChunk View(ReadOnlyMemory<byte> memory) =>
        memory.Length <= MaxLength
            ? new TensorChunk(null, memory)
            : throw new ArgumentException($"A chunk has at most {MaxLength} bytes, but {memory.Length} were given. Send several.", nameof(memory));

    public static TensorChunk Rent(int length, out Memory<byte> memory)
    {
        var rented = ArrayPool<byte>.Shared.Rent(length);
        memory = rented.AsMemory(0, length);
        return new TensorChunk(rented, memory);
    }

    public void Dispose()
    {
        _memory = default;
        if (Interlocked.Exchange(ref _rented, null) is { } rented)
            ArrayPool<byte>.Shared.Return(rented);
    }
}
