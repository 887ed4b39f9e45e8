using System.Text.RegularExpressions;
using AdjointDpm.Tests.Models;

namespace AdjointDpm.Tests.Documents;

/// <summary>Links and pictures of every page lead somewhere.</summary>
public sealed partial class LinkTests
{
    public static TheoryData<string> Pages() => [.. Directory.GetFiles(ReferenceFolder.Root(), "*.md").Concat(Directory.GetFiles(Path.Combine(ReferenceFolder.Root(), "docs"), "*.md", SearchOption.AllDirectories)).Select(p => Path.GetRelativePath(ReferenceFolder.Root(), p)).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Pages))]
    public void Page_Links_LeadToFiles(string page)
    {
        var path = Path.Combine(ReferenceFolder.Root(), page);
        var targets = Target().Matches(File.ReadAllText(path)).Select(m => m.Groups[1].Value.Split('#')[0]).Where(t => t.Length > 0 && !t.Contains(':', StringComparison.Ordinal));
        Assert.All(targets, target => Assert.True(Path.Exists(Path.Combine(Path.GetDirectoryName(path)!, target)), $"{page} links to '{target}', which is not there."));
    }

    [GeneratedRegex("""(?:\]\(|src="|srcset=")([^)\s"]+)""")]
    private static partial Regex Target();
}
