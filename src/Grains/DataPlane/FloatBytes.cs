using System.Buffers;
using System.Runtime.InteropServices;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>Numbers as the bytes that they are received in, without a copy between.</summary>
internal sealed class FloatBytes(float[] numbers) : MemoryManager<byte>
{
    public override Span<byte> GetSpan() => MemoryMarshal.AsBytes(numbers.AsSpan());

    public override unsafe MemoryHandle Pin(int elementIndex = 0)
    {
        var handle = GCHandle.Alloc(numbers, GCHandleType.Pinned);
        return new MemoryHandle((byte*)handle.AddrOfPinnedObject() + elementIndex, handle);
    }

    public override void Unpin()
    {
        // The handle above is the memory handle's own.
    }

    protected override void Dispose(bool disposing)
    {
    }
}
