using System.Buffers;
using Orleans.Serialization.Buffers;
using Orleans.Serialization.Cloning;
using Orleans.Serialization.Codecs;
using Orleans.Serialization.WireProtocol;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>Writes a chunk straight from its memory and reads it into a rented array: one copy on each side and nothing on the large object heap.</summary>
[RegisterSerializer]
internal sealed class TensorChunkCodec : IFieldCodec<TensorChunk?>
{
    public void WriteField<TBufferWriter>(ref Writer<TBufferWriter> writer, uint fieldIdDelta, Type? expectedType, TensorChunk? value)
        where TBufferWriter : IBufferWriter<byte>
    {
        if (value is null)
        {
            ReferenceCodec.WriteNullReference(ref writer, fieldIdDelta);
            return;
        }
        ReferenceCodec.MarkValueField(writer.Session);
        writer.WriteFieldHeader(fieldIdDelta, expectedType, typeof(TensorChunk), WireType.LengthPrefixed);
        writer.WriteVarUInt32((uint)value.Memory.Length);
        writer.Write(value.Memory.Span);
    }

    public TensorChunk? ReadValue<TInput>(ref Reader<TInput> reader, Field field)
    {
        if (field.WireType == WireType.Reference)
            return ReferenceCodec.ReadReference<TensorChunk, TInput>(ref reader, field);
        if (field.WireType != WireType.LengthPrefixed)
            throw new InvalidDataException($"A tensor chunk is length-prefixed, but the field has wire type {field.WireType}.");
        ReferenceCodec.MarkValueField(reader.Session);
        var length = reader.ReadVarUInt32();
        if (length > TensorChunk.MaxLength)
            throw new InvalidDataException($"A chunk of {length} bytes was announced, but at most {TensorChunk.MaxLength} are accepted.");
        var chunk = TensorChunk.Rent((int)length, out var memory);
        reader.ReadBytes(memory.Span);
        return chunk;
    }
}

/// <summary>Chunks are moved, not copied, when caller and grain share a silo.</summary>
[RegisterCopier]
internal sealed class TensorChunkCopier : IDeepCopier<TensorChunk>, IOptionalDeepCopier
{
    public TensorChunk? DeepCopy(TensorChunk? input, CopyContext context) => input;

    public bool IsShallowCopyable() => true;
}
