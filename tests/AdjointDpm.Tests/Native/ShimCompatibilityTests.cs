using AdjointDpm.Native;

namespace AdjointDpm.Tests.Native;

/// <summary>The ELF edit, on the very shim that TorchSharp ships and on a crafted image.</summary>
public sealed class ShimCompatibilityTests
{
    private static string ShimPath =>
        Directory.EnumerateFiles(AppContext.BaseDirectory, "libLibTorchSharp.so", SearchOption.AllDirectories).First();

    [Fact]
    public void Relax_PackagedShim_ChangesOneByte()
    {
        var shim = File.ReadAllBytes(ShimPath);
        var need = ElfImage.Parse(shim).VersionNeeds().Single(n => n.Version == "GLIBCXX_3.4.32");
        Assert.False(need.IsWeak);
        Assert.Equal(["_ZSt21ios_base_library_initv"], ElfImage.Parse(shim).SymbolsOfVersion(need.Index));

        var relaxed = ShimCompatibility.Relax(shim, [need]);

        Assert.Equal(1, shim.Zip(relaxed).Count(pair => pair.First != pair.Second));
        Assert.True(ElfImage.Parse(relaxed).VersionNeeds().Single(n => n.Version == need.Version).IsWeak);
        Assert.Equal(ElfImage.Parse(shim).VersionNeeds().Count, ElfImage.Parse(relaxed).VersionNeeds().Count);
    }

    [Fact]
    public void Relax_VersionBehindUsedSymbols_IsRefusedByName()
    {
        var shim = File.ReadAllBytes(ShimPath);
        var need = ElfImage.Parse(shim).VersionNeeds().First(n => n.Version == "GLIBCXX_3.4");
        var error = Assert.Throws<NativeLoadException>(() => ShimCompatibility.Relax(shim, [need]));
        Assert.Contains("GLIBCXX_3.4", error.Message, StringComparison.Ordinal);
        Assert.Contains("Install", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Missing_RuntimeThatDefinesAll_IsEmpty()
    {
        // The shim defines no versions, so everything it needs of libstdc++ is missing "from itself".
        var shim = ElfImage.Parse(File.ReadAllBytes(ShimPath));
        var needed = shim.VersionNeeds().Count(n => n.Library == "libstdc++.so.6");
        Assert.Equal(needed, ShimCompatibility.Missing(shim, shim).Count);
    }

    [Fact]
    public void WriteCopy_FirstRootUnwritable_UsesTheNextAndIsIdempotent()
    {
        var root = Directory.CreateTempSubdirectory("adpm-native");
        try
        {
            var file = Path.Combine(root.FullName, "a-file");
            File.WriteAllText(file, "");
            var path = ShimCompatibility.WriteCopy([1, 2], [1, 3], "x.so", [file, root.FullName]);
            Assert.Equal([1, 3], File.ReadAllBytes(path));
            Assert.Equal(path, ShimCompatibility.WriteCopy([1, 2], [1, 3], "x.so", [file, root.FullName]));
            File.WriteAllBytes(path, [9]);
            Assert.Equal([1, 3], File.ReadAllBytes(ShimCompatibility.WriteCopy([1, 2], [1, 3], "x.so", [root.FullName])));
            var error = Assert.Throws<NativeLoadException>(() => ShimCompatibility.WriteCopy([1], [2], "x.so", [file]));
            Assert.Contains("XDG_CACHE_HOME", error.Message, StringComparison.Ordinal);
        }
        finally
        {
            root.Delete(recursive: true);
        }
    }

    [Fact]
    public void Parse_RandomCuts_NeverLeaveTheDocumentedException()
    {
        var shim = File.ReadAllBytes(ShimPath);
        var random = new Random(7);
        for (var i = 0; i < 200; i++)
        {
            var cut = shim[..random.Next(shim.Length / 4)];
            for (var j = 0; j < 8 && cut.Length > 0; j++)
                cut[random.Next(Math.Min(cut.Length, 4096))] = (byte)random.Next(256);
            try
            {
                var image = ElfImage.Parse(cut);
                image.VersionNeeds();
                image.VersionDefinitions();
            }
            catch (BadImageFormatException)
            {
            }
            catch (KeyNotFoundException)
            {
                Assert.Fail("A missing table must be a BadImageFormatException.");
            }
        }
    }
}
