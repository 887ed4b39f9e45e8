using System.Buffers.Binary;
using System.Text;

namespace AdjointDpm.Losses.Onnx;

/// <summary>Walks the fields of one protobuf message, as far as ONNX files need it: varints, 32 and 64 bits, and bytes.</summary>
/// <remarks>A parser of our own, since the library refers to nothing but torch; the wire format is five rules.</remarks>
internal ref struct ProtoReader(ReadOnlySpan<byte> bytes)
{
    private ReadOnlySpan<byte> _rest = bytes;
    private ulong _value;
    private ReadOnlySpan<byte> _payload;
    private bool _packed;

    /// <summary>Number of the field under the reader.</summary>
    public int Field { get; private set; }

    /// <summary>Its value, of a field with a number.</summary>
    public readonly long Long => (long)_value;

    /// <summary>Its value, of a field of 32 bits.</summary>
    public readonly float Float => BitConverter.UInt32BitsToSingle((uint)_value);

    /// <summary>Its bytes, of a field with a length.</summary>
    public readonly ReadOnlySpan<byte> Bytes => _payload;

    /// <summary>Its bytes as text.</summary>
    public readonly string Text => Encoding.UTF8.GetString(_payload);

    /// <summary>Goes to the next field.</summary>
    public bool Next()
    {
        if (_rest.IsEmpty)
            return false;
        var key = Varint();
        Field = (int)(key >> 3);
        _payload = [];
        _packed = (key & 7) == 2;
        switch (key & 7)
        {
            case 0: _value = Varint(); break;
            case 1: _value = BinaryPrimitives.ReadUInt64LittleEndian(Take(8)); break;
            case 2:
                _payload = Take(Varint());
                break;
            case 5: _value = BinaryPrimitives.ReadUInt32LittleEndian(Take(4)); break;
            default: throw new InvalidDataException($"a field has the unknown wire type {key & 7}");
        }

        return true;
    }

    /// <summary>Integers of a repeated field: one where it is not packed, many where it is.</summary>
    public readonly void AddLongs(List<long> to)
    {
        if (!_packed)
        {
            to.Add(Long);
            return;
        }

        var packed = new ProtoReader(_payload);
        while (!packed._rest.IsEmpty)
            to.Add((long)packed.Varint());
    }

    /// <summary>Floats of a repeated field.</summary>
    public readonly void AddFloats(List<float> to)
    {
        if (!_packed)
            to.Add(Float);
        for (var at = 0; at + 4 <= _payload.Length; at += 4)
            to.Add(BinaryPrimitives.ReadSingleLittleEndian(_payload[at..]));
    }

    private ulong Varint()
    {
        ulong value = 0;
        for (var shift = 0; shift < 64; shift += 7)
        {
            var part = Take(1)[0];
            value |= (ulong)(part & 0x7F) << shift;
            if (part < 0x80)
                return value;
        }

        throw new InvalidDataException("a number is longer than ten bytes");
    }

    private ReadOnlySpan<byte> Take(ulong count)
    {
        if (count > (ulong)_rest.Length)
            throw new InvalidDataException("it ends within a field");
        var taken = _rest[..(int)count];
        _rest = _rest[(int)count..];
        return taken;
    }
}
