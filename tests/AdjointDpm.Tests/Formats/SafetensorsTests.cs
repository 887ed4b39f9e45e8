using System.Buffers.Binary;
using System.Text;
using AdjointDpm.Formats;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Formats;

public sealed class SafetensorsTests
{
    [Fact]
    public void Write_EveryDtypeAndOddShapes_ReadsBackBitForBit()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        var values = arange(0, 24, dtype: float32).sub(7).reshape(2, 3, 4);
        var tensors = new Dictionary<string, Tensor>
        {
            ["single"] = tensor(3.25),
            ["empty"] = zeros(0, 4, dtype: float32),
            ["strided"] = values.transpose(0, 2),
            ["ключ"] = values,
        };
        foreach (var dtype in new[] { ScalarType.Float64, ScalarType.Float32, ScalarType.Float16, ScalarType.BFloat16, ScalarType.Int64, ScalarType.Int32, ScalarType.Int16, ScalarType.Int8, ScalarType.Bool })
            tensors[$"{dtype}"] = values.to(dtype);
        tensors["Byte"] = arange(0, 24, dtype: float32).to(ScalarType.Byte);

        SafetensorsWriter.Write(folder["a.safetensors"], tensors, new Dictionary<string, string> { ["b"] = "2", ["a"] = "é\"1" });
        using var file = SafetensorsFile.Open(folder["a.safetensors"]);

        Assert.Equal(tensors.Keys.Order(StringComparer.Ordinal), file.Names);
        Assert.Equal("é\"1", file.Metadata["a"]);
        foreach (var (name, expected) in tensors)
        {
            var actual = file.Read(name);
            Assert.Equal(expected.dtype, actual.dtype);
            Assert.Equal(expected.dtype, file.Dtype(name));
            Assert.Equal(expected.shape, actual.shape);
            Assert.Equal(expected.shape, file.Shape(name));
            Assert.True(expected.contiguous().bytes.SequenceEqual(actual.bytes), name);
        }
    }

    [Fact]
    public void Write_AnyOrder_GivesEqualBytesAndAlignedData()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        var (wide, narrow) = (randn(3, dtype: float64), tensor(new byte[] { 1, 2, 3 }));
        SafetensorsWriter.Write(folder["1"], new Dictionary<string, Tensor> { ["a"] = narrow, ["z"] = wide });
        SafetensorsWriter.Write(folder["2"], new Dictionary<string, Tensor> { ["z"] = wide, ["a"] = narrow });

        var bytes = File.ReadAllBytes(folder["1"]);
        Assert.Equal(bytes, File.ReadAllBytes(folder["2"]));
        Assert.Equal(0, BinaryPrimitives.ReadInt64LittleEndian(bytes) % 8);
        Assert.Contains("\"z\":{\"dtype\":\"F64\",\"shape\":[3],\"data_offsets\":[0,24]}", Encoding.UTF8.GetString(bytes), StringComparison.Ordinal);
        Assert.Equal(["1", "2"], Directory.GetFiles(folder.Path).Select(Path.GetFileName).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Write_UnknownDtype_NamesTheTensorAndLeavesNothingBehind()
    {
        using var folder = new TemporaryFolder();
        using var complex = zeros(2, dtype: complex64);
        var e = Assert.Throws<SafetensorsException>(() => SafetensorsWriter.Write(folder["a"], new Dictionary<string, Tensor> { ["waves"] = complex }));
        Assert.Equal("waves", e.Tensor);
        Assert.Empty(Directory.GetFiles(folder.Path));
    }

    [Theory]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 4, "cut short")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 12, "belong to no tensor")]
    [InlineData("""{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}""", 8, "needs 12 bytes")]
    [InlineData("""{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}""", 8, "F31")]
    [InlineData("""{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}""", 8, "-2")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}""", 8, "more than can be addressed")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2]}}""", 8, "data_offsets")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", 8, "twice")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}""", 8, "inside tensor 'a'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}""", 12, "gap")]
    [InlineData("""{"__metadata__":{"n":1},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 8, "'n'")]
    [InlineData("""{"a":7}""", 0, "'a'")]
    [InlineData("""{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}""", 8, "one \"dtype\"")]
    [InlineData("""{"a":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}""", 0, "more than can be addressed")]
    [InlineData("""{"\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 8, "not valid JSON")]
    [InlineData("""{"__metadata__":{"a":"\udc00"}}""", 0, "not valid JSON")]
    [InlineData("""{"a" """, 0, "not valid JSON")]
    [InlineData("""[1]""", 0, "'{'")]
    [InlineData("", 0, "'{'")]
    public void Open_BrokenHeader_SaysWhatIsWrong(string header, int data, string expected)
    {
        using var folder = new TemporaryFolder();
        var path = folder["broken.safetensors"];
        File.WriteAllBytes(path, [.. BitConverter.GetBytes((long)Encoding.UTF8.GetByteCount(header)), .. Encoding.UTF8.GetBytes(header), .. new byte[data]]);
        var e = Assert.Throws<SafetensorsException>(() => SafetensorsFile.Open(path));
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
        Assert.Equal(path, e.File);
    }

    [Theory]
    [InlineData(new byte[] { 1, 2, 3 }, "3 bytes")]
    [InlineData(new byte[] { 100, 0, 0, 0, 0, 0, 0, 0, 123 }, "only 1 follow")]
    [InlineData(new byte[] { 0, 0, 0, 0, 0, 0, 0, 1 }, "not a safetensors file")]
    public void Open_BrokenLength_SaysWhatIsWrong(byte[] bytes, string expected)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllBytes(folder["broken"], bytes);
        Assert.Contains(expected, Assert.Throws<SafetensorsException>(() => SafetensorsFile.Open(folder["broken"])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Open_NoFile_AndRead_NoTensor_NameWhatIsMissing()
    {
        using var folder = new TemporaryFolder();
        Assert.Contains("no such file", Assert.Throws<SafetensorsException>(() => SafetensorsFile.Open(folder["none"])).Message, StringComparison.Ordinal);
        using var one = ones(1);
        SafetensorsWriter.Write(folder["a"], new Dictionary<string, Tensor> { ["weight"] = one });
        using var file = SafetensorsFile.Open(folder["a"]);
        Assert.False(file.Contains("bias"));
        Assert.Equal("bias", Assert.Throws<SafetensorsException>(() => file.Read("bias")).Tensor);
    }
}
