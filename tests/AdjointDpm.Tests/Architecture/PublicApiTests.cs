using AdjointDpm.Gradients;
using AdjointDpm.Tests.Models;
using PublicApiGenerator;

namespace AdjointDpm.Tests.Architecture;

public sealed class PublicApiTests
{
    /// <summary>What users of the library compile against changes only together with docs/api: a reviewer sees it, and so does whoever upgrades.</summary>
    [Fact]
    public void Library_PublicApi_IsTheRecordedOne()
    {
        var recorded = Path.Combine(ReferenceFolder.Root(), "docs", "api", "AdjointDpm.txt");
        var actual = typeof(Sampling).Assembly.GeneratePublicApi(new ApiGeneratorOptions { IncludeAssemblyAttributes = false }).ReplaceLineEndings("\n").TrimEnd() + "\n";
        if (File.Exists(recorded) && File.ReadAllText(recorded).ReplaceLineEndings("\n") == actual)
            return;
        var received = Path.ChangeExtension(recorded, ".received.txt");
        Directory.CreateDirectory(Path.GetDirectoryName(received)!);
        File.WriteAllText(received, actual);
        Assert.Fail($"The public surface is no longer what docs/api/AdjointDpm.txt says. If the change is meant, put {received} in its place, and tell users in CHANGELOG.md.");
    }
}
