using AdjointDpm.Tests.Models;

namespace AdjointDpm.Tests.Architecture;

/// <summary>What the README shows is what is in the repository.</summary>
public sealed class ReadmeTests
{
    private static readonly string Readme = File.ReadAllText(Path.Combine(ReferenceFolder.Root(), "README.md")).ReplaceLineEndings("\n");

    [Fact]
    public void Readme_LibraryExample_IsTheSample()
    {
        var sample = File.ReadAllText(Path.Combine(ReferenceFolder.Root(), "samples", "noise-gradient.cs")).ReplaceLineEndings("\n");
        var code = sample[sample.IndexOf("using ", StringComparison.Ordinal)..];
        Assert.Contains("```csharp\n" + code + "```\n", Readme, StringComparison.Ordinal);
    }

    [Fact]
    public void Readme_IsShort() => Assert.InRange(Readme.Split('\n').Length, 20, 200);
}
