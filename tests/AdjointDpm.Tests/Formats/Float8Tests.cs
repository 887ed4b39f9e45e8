using System.Buffers.Binary;
using System.Text;
using AdjointDpm.Formats;
using AdjointDpm.Models.Files;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Formats;

public sealed class Float8Tests
{
    // Numbers of Micikevicius et al. (2022), table 1, and some between.
    [Theory]
    [InlineData("F8_E4M3", new byte[] { 0x00, 0x01, 0x07, 0x08, 0x38, 0x39, 0xC0, 0x7E, 0x7F, 0xFE }, new[] { 0, 0.001953125, 0.013671875, 0.015625, 1, 1.125, -2, 448, double.NaN, -448 })]
    [InlineData("F8_E5M2", new byte[] { 0x00, 0x01, 0x03, 0x04, 0x3C, 0x3D, 0xC0, 0x7B, 0x7E, 0xFC }, new[] { 0, 0.0000152587890625, 0.0000457763671875, 0.00006103515625, 1, 1.25, -2, 57344, double.NaN, double.NegativeInfinity })]
    public void Read_EightBits_IsFloat16WithTheirValues(string dtype, byte[] bytes, double[] expected)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        Write(folder["a.safetensors"], dtype, bytes);
        using var file = SafetensorsFile.Open(folder["a.safetensors"]);
        Assert.Equal((dtype, ScalarType.Float16), (file.Spelling("w"), file.Dtype("w")));
        Assert.Equal(expected, file.Read("w").to(float64).data<double>().ToArray());
        var report = ModelFile.Inspect(folder["a.safetensors"]);
        Assert.Equal(dtype, report.Tensors[0].Dtype);
        Assert.Equal(["float8_" + dtype[3..].ToLowerInvariant()], ModelList.In(folder.Path)[0].Precision);
    }

    [Fact]
    public void Read_EightBitsCutShort_IsNamed()
    {
        using var folder = new TemporaryFolder();
        Write(folder["a"], "F8_E4M3", new byte[10]);
        File.WriteAllBytes(folder["a"], File.ReadAllBytes(folder["a"])[..^1]);
        Assert.Contains("cut short", Assert.Throws<SafetensorsException>(() => SafetensorsFile.Open(folder["a"])).Message, StringComparison.Ordinal);
    }

    private static void Write(string path, string dtype, byte[] bytes)
    {
        var header = Encoding.UTF8.GetBytes("{\"w\":{\"dtype\":\"" + dtype + FormattableString.Invariant($"\",\"shape\":[{bytes.Length}],\"data_offsets\":[0,{bytes.Length}]") + "}}");
        var length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        File.WriteAllBytes(path, [.. length, .. header, .. bytes]);
    }
}
