using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;

namespace AdjointDpm.Cluster.Tests;

/// <summary>samples/silo/own-loss.cs as a real silo: compiled here, in a folder that is the silo's own but for the program.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class OwnLossTests
{
    private const string Usings = "global using System; global using System.Collections.Generic; global using System.IO; global using System.Linq; global using System.Net.Http; global using System.Threading; global using System.Threading.Tasks;";

    [Fact]
    public async Task SiloWithALossOfItsOwn_TrainsByIt()
    {
        await using var cluster = await RealCluster.StartAsync(0);
        await cluster.AddOfAsync(Compiled(Path.Combine(cluster.Folder, "program")), "silo-0");
        var spec = ExperimentDocument.Load(Path.Combine(Repository.Root, "samples", "silo", "own-loss.yaml")).Document!.Spec;
        var snapshot = await cluster.RunAsync("own-loss", spec);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason + cluster.Silos[0].Log);
        var trial = Assert.Single(snapshot.Trials);
        Assert.True(trial.Proof is { Passed: true, Exact: true }, $"{trial.Proof}");
        Assert.True(trial.LossHistory[^1] < 0.5 * trial.LossHistory[0], string.Join(' ', trial.LossHistory));
        Assert.Equal(trial.Metrics["loss"], trial.Metrics["custom"]);
    }

    private static string Compiled(string folder)
    {
        var silo = Path.GetDirectoryName(SiloProcess.Program)!;
        Link(silo, folder);
        var (cancellation, source) = (TestContext.Current.CancellationToken, Path.Combine(Repository.Root, "samples", "silo", "own-loss.cs"));
        var language = CSharpParseOptions.Default.WithFeatures([new("FileBasedProgram", "true")]);
        var compilation = CSharpCompilation.Create(
            "own-loss",
            [CSharpSyntaxTree.ParseText(File.ReadAllText(source), language, source, cancellationToken: cancellation), CSharpSyntaxTree.ParseText(Usings, language, cancellationToken: cancellation)],
            [.. ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(Path.PathSeparator).Append(SiloProcess.Program).Select(path => MetadataReference.CreateFromFile(path))],
            new(OutputKind.ConsoleApplication, nullableContextOptions: NullableContextOptions.Enable));
        var program = Path.Combine(folder, "own-loss.dll");
        var emitted = compilation.Emit(program, cancellationToken: cancellation);
        Assert.True(emitted.Success, string.Join('\n', emitted.Diagnostics.Where(d => d.Severity == DiagnosticSeverity.Error)));
        foreach (var kind in new[] { "deps", "runtimeconfig" })
            File.Copy(Path.ChangeExtension(SiloProcess.Program, $".{kind}.json"), Path.ChangeExtension(program, $".{kind}.json"));
        return program;
    }

    /// <summary>libtorch is 480 MB: linked, not copied.</summary>
    private static void Link(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (var file in Directory.GetFiles(from))
            File.CreateSymbolicLink(Path.Combine(to, Path.GetFileName(file)), file);
        foreach (var below in Directory.GetDirectories(from))
            Directory.CreateSymbolicLink(Path.Combine(to, Path.GetFileName(below)), below);
    }
}
