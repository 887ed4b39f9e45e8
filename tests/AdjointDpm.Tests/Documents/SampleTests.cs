using System.Globalization;
using System.Reflection;
using System.Runtime.Loader;
using System.Text.RegularExpressions;
using AdjointDpm.Tests.Models;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace AdjointDpm.Tests.Documents;

/// <summary>Every sample compiles, runs, and prints what docs/samples.md says. Compiled here rather than by <c>dotnet run</c>, which would build each one's folder anew.</summary>
[Collection(nameof(Alone))]
public sealed partial class SampleTests
{
    private const string Usings = "global using System; global using System.Collections.Generic; global using System.IO; global using System.Linq; global using System.Net.Http; global using System.Threading; global using System.Threading.Tasks;";

    private static readonly string Folder = Path.Combine(ReferenceFolder.Root(), "samples");
    private static readonly string Page = Text(Path.Combine(ReferenceFolder.Root(), "docs", "samples.md"));
    private static readonly string[] Head = ["#:project ../src/AdjointDpm/AdjointDpm.csproj", "#:package TorchSharp-cpu", "#:property PublishAot=false"];
    private static readonly CSharpParseOptions Language = new CSharpParseOptions(LanguageVersion.Latest).WithFeatures([new("FileBasedProgram", "true")]);
    private static readonly MetadataReference[] References = [.. ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(Path.PathSeparator).Select(path => MetadataReference.CreateFromFile(path))];

    public static TheoryData<string> Names() => [.. Directory.GetFiles(Folder, "*.cs").Select(path => Path.GetFileNameWithoutExtension(path)!).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Sample_Run_PrintsWhatThePageSays(string name)
    {
        var printed = Run(name);
        var promised = Printed().Match(Section(name)).Groups[1].Value;
        Assert.Equal(Number().Replace(promised, "#").Split('\n'), Number().Replace(printed, "#").Split('\n'));
        // Rounding differs between processors and grows where a sample trains.
        Assert.All(Numbers(promised).Zip(Numbers(printed)), pair => Assert.True(Math.Abs(pair.First.Value - pair.Second.Value) <= Math.Max(0.05 * Math.Abs(pair.First.Value), pair.First.LastDigit), $"{pair.First.Value} became {pair.Second.Value}\n{printed}"));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Sample_Text_IsShortAndAsksOneQuestion(string name)
    {
        var lines = Text(Path.Combine(Folder, name + ".cs")).Split('\n');
        Assert.InRange(lines.Length, 10, 60);
        Assert.EndsWith("\n\n" + lines[0][3..] + "\n\n```text\n", Section(name)[..(Section(name).IndexOf("```text\n", StringComparison.Ordinal) + 8)], StringComparison.Ordinal);
        Assert.Equal($"// dotnet run samples/{name}.cs", lines[1]);
        Assert.Equal(Head, lines[2..5]);
    }

    private static string Section(string name)
    {
        var from = Page.IndexOf($"## [{name}](../samples/{name}.cs)\n", StringComparison.Ordinal);
        Assert.True(from >= 0, $"docs/samples.md has no section for samples/{name}.cs.");
        var next = Page.IndexOf("\n## ", from, StringComparison.Ordinal);
        return Page[from..(next < 0 ? Page.Length : next)];
    }

    private static string Run(string name)
    {
        var path = Path.Combine(Folder, name + ".cs");
        var cancellation = TestContext.Current.CancellationToken;
        var compilation = CSharpCompilation.Create(
            "Sample." + name,
            [CSharpSyntaxTree.ParseText(Text(path), Language, path, cancellationToken: cancellation), CSharpSyntaxTree.ParseText(Usings, Language, cancellationToken: cancellation)],
            References,
            new(OutputKind.ConsoleApplication, nullableContextOptions: NullableContextOptions.Enable));
        using var image = new MemoryStream();
        var emitted = compilation.Emit(image, cancellationToken: cancellation);
        Assert.True(emitted.Success, string.Join('\n', emitted.Diagnostics.Where(d => d.Severity == DiagnosticSeverity.Error)));
        image.Position = 0;
        var (output, folder) = (Console.Out, Environment.CurrentDirectory);
        using var printed = new StringWriter(CultureInfo.InvariantCulture);
        try
        {
            Console.SetOut(printed);
            Environment.CurrentDirectory = ReferenceFolder.Root();
            new AssemblyLoadContext(name).LoadFromStream(image).EntryPoint!.Invoke(null, BindingFlags.DoNotWrapExceptions, null, [Array.Empty<string>()], null);
        }
        finally
        {
            Console.SetOut(output);
            Environment.CurrentDirectory = folder;
        }

        return printed.ToString().ReplaceLineEndings("\n").Trim();
    }

    private static IEnumerable<(double Value, double LastDigit)> Numbers(string text) => Number().Matches(text).Select(m =>
    {
        var power = m.Groups[2].Success ? double.Parse(m.Groups[2].Value, CultureInfo.InvariantCulture) : 0;
        return (double.Parse(m.Value, CultureInfo.InvariantCulture), Math.Pow(10, power - m.Groups[1].Length));
    });

    private static string Text(string path) => File.ReadAllText(path).ReplaceLineEndings("\n").TrimEnd('\n');

    [GeneratedRegex("```text\n(.*?)\n```", RegexOptions.Singleline)]
    private static partial Regex Printed();

    [GeneratedRegex(@"-?\d+(?:\.(\d+))?(?:[eE]([-+]?\d+))?")]
    private static partial Regex Number();
}
