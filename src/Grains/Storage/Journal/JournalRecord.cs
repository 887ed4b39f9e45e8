using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace AdjointDpm.Grains.Storage;

internal enum JournalKind : byte
{
    /// <summary>First of a segment; holds the boot of the machine that wrote it.</summary>
    Begin = 1,

    /// <summary>A whole file; <see cref="JournalRecord.Number"/> is its version, 0 for none.</summary>
    Put = 2,

    /// <summary>An addition to a file; <see cref="JournalRecord.Number"/> is where it begins.</summary>
    Append = 3,

    /// <summary>A file was removed; written down so that it is not made again. The removal itself is no more durable than its caller asked for.</summary>
    Delete = 4,

    /// <summary>A file was replaced without the journal: what stands before of it counts no more.</summary>
    Replaced = 5,
}

/// <summary>One change in a segment of the journal.</summary>
/// <remarks>
/// On the disk, little-endian: u32 length of what follows the check; 8 bytes of its SHA-256; kind (1), stamp (8), number (8), length of the
/// path (2), path in UTF-8, relative to the data folder; contents. A record that does not fit its check ends the segment: it was being written.
/// </remarks>
/// <param name="Kind">What is changed.</param>
/// <param name="Stamp">Grows from record to record, over all silos since the machine was started.</param>
/// <param name="Number">Version or place.</param>
/// <param name="Path">File, relative to the data folder.</param>
/// <param name="Contents">Bytes.</param>
internal sealed record JournalRecord(JournalKind Kind, long Stamp, long Number, string Path, ReadOnlyMemory<byte> Contents)
{
    private const int Prefix = 12, Fixed = 19;

    public void WriteTo(MemoryStream stream)
    {
        var path = Encoding.UTF8.GetBytes(Path);
        var length = Fixed + path.Length + Contents.Length;
        var start = (int)stream.Length;
        stream.SetLength(start + Prefix + length);
        stream.Position = stream.Length;
        var bytes = stream.GetBuffer().AsSpan(start, Prefix + length);
        var body = bytes[Prefix..];
        body[0] = (byte)Kind;
        BinaryPrimitives.WriteInt64LittleEndian(body[1..], Stamp);
        BinaryPrimitives.WriteInt64LittleEndian(body[9..], Number);
        BinaryPrimitives.WriteUInt16LittleEndian(body[17..], (ushort)path.Length);
        path.CopyTo(body[Fixed..]);
        Contents.Span.CopyTo(body[(Fixed + path.Length)..]);
        BinaryPrimitives.WriteInt32LittleEndian(bytes, length);
        Check(body, bytes[4..Prefix]);
    }

    /// <summary>The records of a segment, up to the first that is not whole.</summary>
    public static List<JournalRecord> ReadAll(ReadOnlyMemory<byte> segment)
    {
        var records = new List<JournalRecord>();
        Span<byte> check = stackalloc byte[8];
        while (segment.Length >= Prefix + Fixed)
        {
            var length = BinaryPrimitives.ReadInt32LittleEndian(segment.Span);
            if (length < Fixed || length > segment.Length - Prefix)
                break;
            var body = segment.Slice(Prefix, length);
            Check(body.Span, check);
            if (!check.SequenceEqual(segment.Span[4..Prefix]))
                break;
            var path = BinaryPrimitives.ReadUInt16LittleEndian(body.Span[17..]);
            records.Add(new JournalRecord(
                (JournalKind)body.Span[0],
                BinaryPrimitives.ReadInt64LittleEndian(body.Span[1..]),
                BinaryPrimitives.ReadInt64LittleEndian(body.Span[9..]),
                Encoding.UTF8.GetString(body.Span.Slice(Fixed, path)),
                body[(Fixed + path)..]));
            segment = segment[(Prefix + length)..];
        }
        return records;
    }

    private static void Check(ReadOnlySpan<byte> body, Span<byte> into)
    {
        Span<byte> hash = stackalloc byte[32];
        SHA256.HashData(body, hash);
        hash[..8].CopyTo(into);
    }
}
