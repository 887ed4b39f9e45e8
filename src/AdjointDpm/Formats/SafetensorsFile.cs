using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using TorchSharp;

namespace AdjointDpm.Formats;

/// <summary>An open safetensors file. The header is checked when it is opened; tensors are read one by one into their own memory, so that a large file never lies in memory twice, not even as pages of a map.</summary>
public sealed class SafetensorsFile : IDisposable
{
    private readonly SafetensorsHeader _header;
    private readonly SafeFileHandle _handle;
    private readonly long _dataStart;

    private SafetensorsFile(string path, SafetensorsHeader header, SafeFileHandle handle, long dataStart)
    {
        (Path, _header, _handle, _dataStart) = (path, header, handle, dataStart);
        Names = [.. header.Entries.Keys.Order(StringComparer.Ordinal)];
    }

    /// <summary>Path the file was opened from.</summary>
    public string Path { get; }

    /// <summary>Names of the tensors, in ordinal order.</summary>
    public IReadOnlyList<string> Names { get; }

    /// <summary>The free-form strings of the header's <c>__metadata__</c>; empty when there is none.</summary>
    public IReadOnlyDictionary<string, string> Metadata => _header.Metadata;

    /// <summary>Opens a file and checks its header.</summary>
    /// <param name="path">Path of the file.</param>
    /// <returns>The file, to be disposed by the caller.</returns>
    /// <exception cref="SafetensorsException">The file is missing, cut short or breaks a rule of the format.</exception>
    public static SafetensorsFile Open(string path)
    {
        if (!File.Exists(path))
            throw new SafetensorsException(path, null, "there is no such file. Check the path.");
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete);
        Span<byte> prefix = stackalloc byte[8];
        if (stream.Length < 8)
            throw new SafetensorsException(path, null, $"the file holds {stream.Length} bytes, fewer than the 8 that give the header's length. The file is cut short: get it again.");
        stream.ReadExactly(prefix);
        var length = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        // Where a length makes no sense, it may be a zip file's or a pickle's first bytes: what torch.save writes.
        if (length > (ulong)(stream.Length - 8) && (prefix[..4].SequenceEqual("PK\u0003\u0004"u8) || (prefix[0] == 0x80 && prefix[1] is >= 2 and <= 5)))
            throw new SafetensorsException(path, null, "this is a pickled checkpoint, which can run any code when it is read, and is not read. Convert it to safetensors, or get the safetensors form.");
        if (length > (ulong)SafetensorsHeader.MaxLength)
            throw new SafetensorsException(path, null, $"the header claims {length} bytes, more than the {SafetensorsHeader.MaxLength} allowed. This is not a safetensors file.");
        if (length > (ulong)(stream.Length - 8))
            throw new SafetensorsException(path, null, $"the header claims {length} bytes, but only {stream.Length - 8} follow. The file is cut short: get it again.");

        var json = new byte[length];
        stream.ReadExactly(json);
        var dataStart = 8 + (long)length;
        var dataLength = stream.Length - dataStart;
        var header = SafetensorsHeader.Parse(path, json, dataLength);
        return new SafetensorsFile(path, header, File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete), dataStart);
    }

    /// <summary>Whether the file holds a tensor of this name.</summary>
    public bool Contains(string name) => _header.Entries.ContainsKey(name);

    /// <summary>Shape of a tensor; empty for a single number.</summary>
    /// <exception cref="SafetensorsException">The file has no tensor of this name.</exception>
    public IReadOnlyList<long> Shape(string name) => Entry(name).Shape;

    /// <summary>How the file spells a tensor's element type, such as <c>BF16</c> or <c>F8_E4M3</c>.</summary>
    /// <exception cref="SafetensorsException">The file has no tensor of this name.</exception>
    public string Spelling(string name) => Entry(name).Dtype;

    /// <summary>Element type of a tensor as it is read: float16 for those of eight bits, which it holds exactly.</summary>
    /// <exception cref="SafetensorsException">The file has no tensor of this name.</exception>
    public torch.ScalarType Dtype(string name) => SafetensorsHeader.TypeOf(Entry(name).Dtype);

    /// <summary>Copies a tensor out of the file, on the CPU, in the file's own dtype; of eight bits in float16.</summary>
    /// <returns>A new tensor in the current dispose scope; it does not require grad and outlives the file.</returns>
    /// <exception cref="SafetensorsException">The file has no tensor of this name, or it holds 2 GiB or more.</exception>
    public torch.Tensor Read(string name)
    {
        var tensor = Room(name);
        Fill(name, tensor);
        return tensor;
    }

    /// <summary>A tensor for <see cref="Fill(string, torch.Tensor)"/>, in the current dispose scope.</summary>
    internal torch.Tensor Room(string name)
    {
        var entry = Entry(name);
        return entry.End - entry.Begin <= int.MaxValue / (Float8.Is(entry.Dtype) ? sizeof(ushort) : 1) ? torch.empty(entry.Shape, dtype: SafetensorsHeader.TypeOf(entry.Dtype))
            : throw new SafetensorsException(Path, name, $"holds {entry.End - entry.Begin} bytes; single tensors of 2 GiB and more are not read. Split it.");
    }

    /// <summary>Reads a tensor's bytes into its room. May be called on several threads, for different tensors.</summary>
    internal void Fill(string name, torch.Tensor room)
    {
        var entry = Entry(name);
        if (entry.End == entry.Begin)
            return;
        if (Float8.Is(entry.Dtype))
        {
            var narrow = new byte[entry.End - entry.Begin];
            Fill(name, entry, narrow);
            Float8.Widen(entry.Dtype, narrow, MemoryMarshal.Cast<byte, Half>(room.bytes));
        }
        else
        {
            Fill(name, entry, room.bytes);
        }

        GC.KeepAlive(room);
    }

    private void Fill(string name, SafetensorsEntry entry, Span<byte> target)
    {
        var at = _dataStart + entry.Begin;
        while (target.Length > 0)
        {
            var read = RandomAccess.Read(_handle, target, at);
            if (read == 0)
                throw new SafetensorsException(Path, name, "ends before its last byte. The file was cut while it was open: get it again.");
            target = target[read..];
            at += read;
        }
    }

    /// <summary>Closes the file. Tensors that were read stay valid.</summary>
    public void Dispose() => _handle.Dispose();

    private SafetensorsEntry Entry(string name) =>
        _header.Entries.TryGetValue(name, out var entry)
            ? entry
            : throw new SafetensorsException(Path, name, $"is not in the file, which holds {Names.Count} tensors{(Names.Count > 0 ? $", the first being '{Names[0]}'" : "")}.");
}
