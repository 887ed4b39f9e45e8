using System.Reflection;
using System.Text.RegularExpressions;
using AdjointDpm.Gradients;
using AdjointDpm.Tests.Models;

namespace AdjointDpm.Tests.Documents;

/// <summary>Names that the pages put between backticks are names of the library: a renamed member cannot leave its old name behind.</summary>
public sealed partial class NameTests
{
    private static readonly ILookup<string, Type> Types = typeof(Sampling).Assembly.GetTypes().ToLookup(t => t.Name.Split('`')[0]);

    [Theory]
    [MemberData(nameof(LinkTests.Pages), MemberType = typeof(LinkTests))]
    public void Page_TypeAndMember_Exist(string page)
    {
        var text = File.ReadAllText(Path.Combine(ReferenceFolder.Root(), page));
        var missing = Code().Matches(text).SelectMany(code => Qualified().Matches(code.Value)).Select(m => (Type: m.Groups[1].Value, Member: m.Groups[2].Value))
            .Where(name => Types.Contains(name.Type) && !Types[name.Type].Any(type => Has(type, name.Member)));
        Assert.Empty(missing.Select(name => $"{page}: {name.Type}.{name.Member}"));
    }

    private static bool Has(Type type, string member)
        => type.GetMember(member, BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.FlattenHierarchy).Length > 0;

    [GeneratedRegex("```csharp.*?```|`[^`\n]+`", RegexOptions.Singleline)]
    private static partial Regex Code();

    [GeneratedRegex(@"(?<![\w.])([A-Z]\w+)\.([A-Z]\w+)")]
    private static partial Regex Qualified();
}
