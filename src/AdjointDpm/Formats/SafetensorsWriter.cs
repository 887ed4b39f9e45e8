using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;
using TorchSharp;

namespace AdjointDpm.Formats;

/// <summary>Writes safetensors files. Equal tensors and metadata give equal bytes, whatever order they are passed in.</summary>
public static class SafetensorsWriter
{
    /// <summary>Writes a file: first beside its final place, then by one rename, so that a reader never sees half of it.</summary>
    /// <param name="path">Path of the file; its folder is made when missing.</param>
    /// <param name="tensors">Tensors by name, on any device; they are left as they are.</param>
    /// <param name="metadata">Strings for <c>__metadata__</c>. Default: none.</param>
    /// <exception cref="SafetensorsException">A tensor has a dtype that the format has no name for, or a reserved name.</exception>
    /// <exception cref="IOException">The folder cannot be written. What was at the path before is still there.</exception>
    public static void Write(string path, IReadOnlyDictionary<string, torch.Tensor> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        var order = new List<(string Name, torch.Tensor Tensor, string Dtype, long Bytes)>();
        foreach (var (name, tensor) in tensors)
        {
            if (name == "__metadata__")
                throw new SafetensorsException(path, name, "has the name that the format keeps for metadata. Rename it.");
            var dtype = SafetensorsHeader.Spell(tensor.dtype)
                ?? throw new SafetensorsException(path, name, $"has dtype {tensor.dtype}, which the format has no name for. Convert it first.");
            order.Add((name, tensor, dtype, tensor.numel() * SafetensorsHeader.SizeOf(dtype)));
        }

        // Wide types first keeps every tensor aligned to its own width.
        order.Sort((a, b) => SafetensorsHeader.SizeOf(b.Dtype) - SafetensorsHeader.SizeOf(a.Dtype) is var wider && wider != 0
            ? wider
            : string.CompareOrdinal(a.Name, b.Name));

        var folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        Directory.CreateDirectory(folder);
        var staged = Path.Combine(folder, $".{Path.GetFileName(path)}.{Environment.ProcessId}.{Guid.NewGuid():n}");
        try
        {
            using (var stream = new FileStream(staged, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 20))
            {
                var header = Header(order, metadata);
                Span<byte> prefix = stackalloc byte[8];
                BinaryPrimitives.WriteUInt64LittleEndian(prefix, (ulong)header.Length);
                stream.Write(prefix);
                stream.Write(header);
                foreach (var (name, tensor, _, bytes) in order)
                {
                    if (bytes > int.MaxValue)
                        throw new SafetensorsException(path, name, $"holds {bytes} bytes; single tensors of 2 GiB and more are not written. Split it.");
                    if (bytes > 0)
                        WriteTensor(stream, tensor);
                }

                stream.Flush(flushToDisk: true);
            }

            File.Move(staged, path, overwrite: true);
        }
        catch
        {
            File.Delete(staged);
            throw;
        }
    }

    /// <summary>Writes a file with <c>format: pt</c> among its strings, which other loaders ask for.</summary>
    internal static void WriteForTorch(string path, IReadOnlyDictionary<string, torch.Tensor> tensors, IReadOnlyDictionary<string, string>? metadata = null) =>
        Write(path, tensors, new Dictionary<string, string>(metadata ?? new Dictionary<string, string>()) { ["format"] = "pt" });

    private static void WriteTensor(FileStream stream, torch.Tensor tensor)
    {
        using var scope = torch.NewDisposeScope();
        var host = tensor.detach().cpu().contiguous();
        stream.Write(host.bytes);
        GC.KeepAlive(host);
    }

    private static byte[] Header(List<(string Name, torch.Tensor Tensor, string Dtype, long Bytes)> order, IReadOnlyDictionary<string, string>? metadata)
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                json.WriteStartObject("__metadata__");
                foreach (var (key, value) in metadata.OrderBy(m => m.Key, StringComparer.Ordinal))
                    json.WriteString(key, value);
                json.WriteEndObject();
            }

            long at = 0;
            foreach (var (name, tensor, dtype, bytes) in order)
            {
                json.WriteStartObject(name);
                json.WriteString("dtype", dtype);
                json.WriteStartArray("shape");
                foreach (var d in tensor.shape)
                    json.WriteNumberValue(d);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(at);
                json.WriteNumberValue(at += bytes);
                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        // Padded with spaces, so that the data begins at a multiple of 8.
        while (buffer.Length % 8 != 0)
            buffer.WriteByte((byte)' ');
        return buffer.ToArray();
    }
}
