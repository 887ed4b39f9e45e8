using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using ICSharpCode.SharpZipLib.Checksum;

namespace AdjointDpm.Formats;

/// <summary>Texts in PNG files, by which interfaces keep what a picture was made with.</summary>
/// <remarks>PNG specification, 11.3.4: <c>tEXt</c> for texts in Latin-1, <c>iTXt</c> for others. Compressed ones (<c>zTXt</c>, and <c>iTXt</c> with its flag set) are read, up to 16 MiB of text each.</remarks>
public static class PngText
{
    private const int MostText = 16 << 20;

    private static readonly byte[] Signature = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A];

    /// <summary>Adds texts to an encoded picture.</summary>
    /// <param name="png">The whole file.</param>
    /// <param name="texts">Texts by keyword, in order; keywords have 1 to 79 characters of Latin-1.</param>
    /// <returns>The whole file with them.</returns>
    /// <exception cref="InvalidDataException">The bytes are no PNG file.</exception>
    public static byte[] Add(ReadOnlySpan<byte> png, IReadOnlyList<KeyValuePair<string, string>> texts)
    {
        ArgumentNullException.ThrowIfNull(texts);
        // Behind the header, where every reader looks before the pixels.
        var at = Chunks(png.ToArray())[0].End;
        using var result = new MemoryStream();
        result.Write(png[..at]);
        foreach (var (key, value) in texts)
        {
            if (key.Length is 0 or > 79 || key.Any(c => c is '\0' or > '\u00ff'))
                throw new ArgumentException($"'{key}' is no keyword of a PNG text, which has 1 to 79 characters of Latin-1.", nameof(texts));
            var latin = value.All(c => c <= '\u00ff');
            byte[] data = latin
                ? [.. Encoding.Latin1.GetBytes(key), 0, .. Encoding.Latin1.GetBytes(value)]
                : [.. Encoding.Latin1.GetBytes(key), 0, 0, 0, 0, 0, .. Encoding.UTF8.GetBytes(value)];
            Write(result, latin ? "tEXt" : "iTXt", data);
        }

        result.Write(png[at..]);
        return result.ToArray();
    }

    /// <summary>Reads the texts of a picture, by keyword; of equal keywords the first.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="InvalidDataException">The file is no PNG file, or is cut short.</exception>
    public static IReadOnlyDictionary<string, string> Read(string path)
    {
        var png = File.ReadAllBytes(path);
        if (!png.AsSpan().StartsWith(Signature))
            throw new InvalidDataException($"{path}: {(png.Length == 0 ? "the file is empty" : "is no PNG picture, whatever its name says")}. Get it again.");
        var texts = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var (type, begin, end) in Chunks(png))
        {
            var data = png.AsSpan(begin, end - 4 - begin);
            var key = data.IndexOf((byte)0);
            if (key < 1)
                continue;
            if (type == "tEXt")
            {
                texts.TryAdd(Encoding.Latin1.GetString(data[..key]), Encoding.Latin1.GetString(data[(key + 1)..]));
            }
            else if (type == "zTXt" && data.Length > key + 2 && data[key + 1] == 0)
            {
                texts.TryAdd(Encoding.Latin1.GetString(data[..key]), Encoding.Latin1.GetString(Inflated(path, data[(key + 2)..])));
            }
            else if (type == "iTXt" && data.Length > key + 3 && data[key + 1] <= 1 && data[key + 2] == 0)
            {
                // Compression flag and method, then language and translated keyword, each ended by a zero.
                var rest = data[(key + 3)..];
                for (var skip = 0; skip < 2 && rest.IndexOf((byte)0) is >= 0 and var zero; skip++)
                    rest = rest[(zero + 1)..];
                texts.TryAdd(Encoding.Latin1.GetString(data[..key]), Encoding.UTF8.GetString(data[key + 1] == 0 ? rest : Inflated(path, rest)));
            }
        }

        return texts;
    }

    // A few bytes may stand for gigabytes.
    private static byte[] Inflated(string path, ReadOnlySpan<byte> data)
    {
        try
        {
            using var packed = new MemoryStream(data.ToArray());
            using var inflate = new ZLibStream(packed, CompressionMode.Decompress);
            using var text = new MemoryStream();
            var part = new byte[16 << 10];
            for (var read = inflate.Read(part); read > 0; read = inflate.Read(part))
            {
                if (text.Length + read > MostText)
                    throw new InvalidDataException($"{path}: a compressed text of the picture has more than {MostText} bytes, and is not read.");
                text.Write(part, 0, read);
            }

            return text.ToArray();
        }
        catch (InvalidDataException e) when (!e.Message.StartsWith(path, StringComparison.Ordinal))
        {
            throw new InvalidDataException($"{path}: a compressed text of the picture is damaged. Get it again.", e);
        }
    }

    private static List<(string Type, int Begin, int End)> Chunks(byte[] png)
    {
        if (!png.AsSpan().StartsWith(Signature))
            throw new InvalidDataException("The file is no PNG picture.");
        var chunks = new List<(string, int, int)>();
        for (var at = Signature.Length; at < png.Length;)
        {
            var length = png.Length - at < 12 ? -1 : BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(at));
            if (length < 0 || length > png.Length - at - 12)
                throw new InvalidDataException("The PNG picture is cut short.");
            chunks.Add((Encoding.Latin1.GetString(png, at + 4, 4), at + 8, at + 12 + length));
            at += 12 + length;
        }

        return chunks.Count > 0 ? chunks : throw new InvalidDataException("The PNG picture is cut short.");
    }

    private static void Write(MemoryStream stream, string type, byte[] data)
    {
        byte[] typed = [.. Encoding.Latin1.GetBytes(type), .. data];
        var crc = new Crc32();
        crc.Update(typed);
        Span<byte> number = stackalloc byte[4];
        BinaryPrimitives.WriteInt32BigEndian(number, data.Length);
        stream.Write(number);
        stream.Write(typed);
        BinaryPrimitives.WriteUInt32BigEndian(number, (uint)crc.Value);
        stream.Write(number);
    }
}
