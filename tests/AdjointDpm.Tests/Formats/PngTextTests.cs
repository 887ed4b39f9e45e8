using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using AdjointDpm.Formats;

namespace AdjointDpm.Tests.Formats;

public sealed class PngTextTests
{
    [Fact]
    public void Read_CompressedTexts_AreThoseThatWereMeant()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["a.png"], Png(
            ("zTXt", [.. Encoding.Latin1.GetBytes("parameters\0"), 0, .. Packed(Encoding.Latin1.GetBytes("a café"))]),
            ("iTXt", [.. Encoding.Latin1.GetBytes("workflow\0"), 1, 0, 0, 0, .. Packed(Encoding.UTF8.GetBytes("狐"))]),
            ("iTXt", [.. Encoding.Latin1.GetBytes("plain\0"), 0, 0, .. Encoding.Latin1.GetBytes("en\0Wort\0"), .. Encoding.UTF8.GetBytes("fox")])));
        Assert.Equal(new Dictionary<string, string> { ["parameters"] = "a café", ["workflow"] = "狐", ["plain"] = "fox" }, PngText.Read(folder["a.png"]));
    }

    [Fact]
    public void Read_TextThatIsDamagedOrABomb_IsRefusedInASentence()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["a.png"], Png(("zTXt", [.. Encoding.Latin1.GetBytes("k\0"), 0, 1, 2, 3, 4])));
        Assert.Contains("damaged", Assert.Throws<InvalidDataException>(() => PngText.Read(folder["a.png"])).Message, StringComparison.Ordinal);
        File.WriteAllBytes(folder["b.png"], Png(("zTXt", [.. Encoding.Latin1.GetBytes("k\0"), 0, .. Packed(new byte[17 << 20])])));
        Assert.Contains("more than", Assert.Throws<InvalidDataException>(() => PngText.Read(folder["b.png"])).Message, StringComparison.Ordinal);
    }

    private static byte[] Packed(byte[] text)
    {
        using var packed = new MemoryStream();
        using (var deflate = new ZLibStream(packed, CompressionLevel.Optimal, leaveOpen: true))
            deflate.Write(text);
        return packed.ToArray();
    }

    // Sums are not looked at by readers of texts.
    private static byte[] Png(params (string Type, byte[] Data)[] chunks)
    {
        List<byte> file = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A];
        foreach (var (type, data) in chunks)
        {
            var length = new byte[4];
            BinaryPrimitives.WriteInt32BigEndian(length, data.Length);
            file.AddRange([.. length, .. Encoding.Latin1.GetBytes(type), .. data, 0, 0, 0, 0]);
        }

        return [.. file];
    }
}
