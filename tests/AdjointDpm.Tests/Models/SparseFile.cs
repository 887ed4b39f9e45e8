using System.IO.Compression;
using System.Text;
using System.Text.Json;

namespace AdjointDpm.Tests.Models;

/// <summary>Safetensors files of full size whose data are holes on the disk, and the published names and shapes.</summary>
internal static class SparseFile
{
    /// <summary>One set of <c>Reference/sd_keys/names.txt.gz</c>.</summary>
    public static Dictionary<string, long[]> Names(string set)
    {
        using var reader = new StreamReader(new GZipStream(File.OpenRead(Path.Combine(ReferenceFolder.Of("sd_keys"), "names.txt.gz")), CompressionMode.Decompress));
        return reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split(' ')).Where(f => f[0] == set)
            .ToDictionary(f => f[1], f => f[2].Split(',', StringSplitOptions.RemoveEmptyEntries).Select(long.Parse).ToArray());
    }

    /// <summary>Writes a file of float16 zeros that takes no room.</summary>
    public static void Write(string path, IReadOnlyDictionary<string, long[]> shapes)
    {
        var at = 0L;
        var header = Encoding.UTF8.GetBytes(JsonSerializer.Serialize(shapes.ToDictionary(p => p.Key, p =>
        {
            var begin = at;
            at += 2 * p.Value.Aggregate(1L, (a, b) => a * b);
            return new { dtype = "F16", shape = p.Value, data_offsets = new[] { begin, at } };
        })));
        using var stream = File.Create(path);
        stream.Write(BitConverter.GetBytes((long)header.Length));
        stream.Write(header);
        stream.SetLength(8 + header.Length + at);
    }
}
