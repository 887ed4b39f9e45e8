using System.Reflection;
using System.Xml.Linq;
using AdjointDpm.Gradients;
using AdjointDpm.Tests.Models;

namespace AdjointDpm.Tests.Architecture;

/// <summary>Client → Grains.Abstractions ← Grains → AdjointDpm → TorchSharp, and Silo → Grains. No arrow back.</summary>
public sealed class DependencyTests
{
    private static readonly Dictionary<string, string[]> Arrows = new()
    {
        ["AdjointDpm"] = [],
        ["Grains.Abstractions"] = [],
        ["Grains"] = ["AdjointDpm", "Grains.Abstractions"],
        ["Silo"] = ["Grains"],
        ["Client"] = ["Grains.Abstractions"],
    };

    [Fact]
    public void Projects_References_FollowTheArrows()
    {
        var source = Path.Combine(ReferenceFolder.Root(), "src");
        var projects = Directory.GetFiles(source, "*.csproj", SearchOption.AllDirectories).Select(Path.GetFileNameWithoutExtension).Order(StringComparer.Ordinal);
        Assert.Equal(Arrows.Keys.Order(StringComparer.Ordinal), projects!);
        foreach (var (project, allowed) in Arrows)
            Assert.Equal(allowed.Order(StringComparer.Ordinal), Items(project, "ProjectReference").Where(IsCompiledAgainst).Select(Referenced).Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData("AdjointDpm", "Microsoft.Orleans", "Microsoft.Extensions", "Microsoft.AspNetCore", "OpenTelemetry", "StackExchange", "Spectre")]
    [InlineData("Grains.Abstractions", "TorchSharp", "Spectre", "StackExchange", "Microsoft.Orleans.Server")]
    [InlineData("Client", "TorchSharp", "Microsoft.Orleans.Server", "StackExchange")]
    [InlineData("Grains", "TorchSharp", "Spectre", "StackExchange")]
    public void Projects_Packages_StayOutOfWhereTheyDoNotBelong(string project, params string[] banned)
        => Assert.DoesNotContain(Items(project, "PackageReference").Select(i => i.Attribute("Include")!.Value), package => banned.Any(b => package.StartsWith(b, StringComparison.Ordinal)));

    [Fact]
    public void NativeTorch_IsPackagedByProgramsOnly()
    {
        foreach (var project in Arrows.Keys)
            Assert.Equal(project == "Silo", File.ReadAllText(ProjectFile(project)).Contains("TorchBackend.props", StringComparison.Ordinal));
    }

    [Fact]
    public void Library_ReferencedAssemblies_AreTorchAndThePlatform()
    {
        var referenced = typeof(Sampling).Assembly.GetReferencedAssemblies().Select(a => a.Name!);
        string[] allowed = ["System.", "TorchSharp", "SkiaSharp", "ICSharpCode.SharpZipLib", "Microsoft.ML.Tokenizers", "netstandard"];
        Assert.All(referenced, name => Assert.True(allowed.Any(a => name.StartsWith(a, StringComparison.Ordinal)), $"AdjointDpm references {name}"));
    }

    [Fact]
    public void Library_PublicTypes_AreSealedOrClosed()
    {
        // Open on purpose: schedules and samplers are added from outside; gradient methods form a closed set.
        string[] open = ["NoiseSchedule", "Sampler", "GradientMethod"];
        var loose = typeof(Sampling).Assembly.GetExportedTypes()
            .Where(t => t.IsClass && !t.IsSealed && !typeof(Delegate).IsAssignableFrom(t) && (t.Namespace!.EndsWith("Schedules", StringComparison.Ordinal) || t.Namespace.EndsWith("Samplers", StringComparison.Ordinal) || t.Namespace.EndsWith("Gradients", StringComparison.Ordinal)));
        Assert.Equal(open.Order(StringComparer.Ordinal), loose.Select(t => t.Name).Order(StringComparer.Ordinal));
        Assert.All(typeof(GradientMethod).GetConstructors(BindingFlags.Instance | BindingFlags.NonPublic), c => Assert.True(c.IsFamilyAndAssembly));
    }

    private static string ProjectFile(string project) => Path.Combine(ReferenceFolder.Root(), "src", project, project + ".csproj");

    private static IEnumerable<XElement> Items(string project, string kind) => XDocument.Load(ProjectFile(project)).Descendants(kind);

    // The client builds the silo beside itself to start it as a process; it never sees its types.
    private static bool IsCompiledAgainst(XElement reference) => (string?)reference.Attribute("ReferenceOutputAssembly") != "false";

    private static string Referenced(XElement reference) => Path.GetFileNameWithoutExtension(reference.Attribute("Include")!.Value.Replace('\\', '/'));
}
