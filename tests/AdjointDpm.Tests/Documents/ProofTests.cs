using System.Reflection;
using System.Text.RegularExpressions;
using AdjointDpm.Tests.Models;

namespace AdjointDpm.Tests.Documents;

/// <summary>docs/proofs.md names tests: each exists and is run, and every claim has one.</summary>
public sealed partial class ProofTests
{
    private const string Header = "| claim | test | asserted | measured |";

    private static readonly ILookup<string, Type> Classes = typeof(ProofTests).Assembly.GetTypes().Where(t => t.Namespace?.StartsWith("AdjointDpm.Tests", StringComparison.Ordinal) == true).ToLookup(t => t.Name);

    public static TheoryData<string> Named() => [.. Rows().SelectMany(row => Test().Matches(row[1])).Select(m => m.Groups[1].Value).Distinct()];

    [Theory]
    [MemberData(nameof(Named))]
    public void Page_NamedTest_ExistsAndIsRun(string name)
    {
        var parts = name.Split('.');
        var method = Assert.Single(Classes[parts[0]]).GetMethod(parts[1]);
        Assert.True(method is not null, $"{name} is no test: docs/proofs.md goes by its old name, or a proof is gone.");
        Assert.True(method.GetCustomAttribute<FactAttribute>() is { Skip: null }, $"{name} is not run.");
    }

    [Fact]
    public void Page_EveryClaim_HasATestAndSaysHowClose()
    {
        Assert.NotEmpty(Rows());
        Assert.All(Rows(), row =>
        {
            Assert.Equal(4, row.Length);
            Assert.Matches(Test(), row[1]);
            Assert.All(row, cell => Assert.NotEqual("", cell.Trim()));
        });
    }

    // Of tables of claims only.
    private static List<string[]> Rows()
    {
        var (rows, inside) = (new List<string[]>(), false);
        foreach (var line in File.ReadLines(Path.Combine(ReferenceFolder.Root(), "docs", "proofs.md")))
        {
            inside = line.StartsWith('|') && (inside || line == Header);
            if (inside && line != Header && !line.StartsWith("|---", StringComparison.Ordinal))
                rows.Add(line.Trim('|').Split(" | "));
        }

        return rows;
    }

    [GeneratedRegex(@"`(\w+Tests\.\w+)`")]
    private static partial Regex Test();
}
