using AdjointDpm.Grains.DataPlane;

namespace AdjointDpm.Grains.Tests.DataPlane;

public sealed class TensorReferenceTests
{
    [Fact]
    public void HashOf_IsLowerCaseSha256() =>
        Assert.Equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", TensorReference.HashOf("abc"u8));

    internal static string HashOfFile(string path) => TensorReference.HashOf(File.ReadAllBytes(path));
}
