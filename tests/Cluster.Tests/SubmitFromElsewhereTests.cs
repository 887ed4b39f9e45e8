using System.Diagnostics;
using System.Globalization;

namespace AdjointDpm.Cluster.Tests;

/// <summary>A client that sees other folders than the silos: paths of an experiment are theirs, and they look for them.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class SubmitFromElsewhereTests : IDisposable
{
    private static readonly string Client = Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "..", "..", "Client", Path.GetFileName(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar)), "adpm.dll"));

    private readonly string _folder = Directory.CreateTempSubdirectory("adjointdpm-elsewhere-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task PathsThatOnlySilosHave_AreTaken_AndThoseThatNobodyHas_AreASentence()
    {
        if (!Environment.IsPrivilegedProcess)
            Assert.Skip("Folders of a silo's own take root.");
        // To the client an empty folder, to the silo the models.
        var models = Directory.CreateDirectory(Path.Combine(_folder, "models")).FullName;
        await using var silo = await SiloProcess.StartByAsync(
            ["unshare", "--mount", "bash", "-c", $"mount --make-rprivate / && mount --bind {DigitsSpecs.Models} {models} && exec \"$@\"", "silo", "dotnet", SiloProcess.Program], "silo-0", Path.Combine(_folder, "data"));
        Assert.Empty(Directory.GetFileSystemEntries(models));

        var (code, said, error) = await SubmitAsync(silo, "digits8-dpm", "digits8-classifier");
        Assert.True(code == 0, error);
        Assert.Contains("succeeded", said + error, StringComparison.Ordinal);

        (code, _, error) = await SubmitAsync(silo, "digits8-dpm", "digits8-clasifier");
        Assert.NotEqual(0, code);
        Assert.Contains($"losses[0].classifier: no such folder '{models}/digits8-clasifier'. Did you mean '{models}/digits8-classifier'?", Flat(error), StringComparison.Ordinal);
        Assert.Contains("Paths of this experiment are those of the silos.", Flat(error), StringComparison.Ordinal);
    }

    private async Task<(int Code, string Said, string Error)> SubmitAsync(SiloProcess silo, string model, string judge)
    {
        var models = Path.Combine(_folder, "models");
        var file = Path.Combine(_folder, "experiment.yaml");
        await File.WriteAllTextAsync(file, $$"""
            apiVersion: adjointdpm.dev/v1
            kind: Experiment
            metadata: {name: elsewhere}
            spec:
              model: {path: {{models}}/{{model}}}
              train: {include: ["mid_block*"]}
              sample: {steps: 4}
              losses: [{name: cross-entropy, classifier: {{models}}/{{judge}}}]
              optimizer: {learningRate: 1e-3}
              training: {steps: 1, shards: 1, samplesPerShard: 2}
            """, TestContext.Current.CancellationToken);
        var start = new ProcessStartInfo("dotnet", [Client, "submit", file, "--watch", "--gateway", string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{silo.Ready.GatewayPort}")]) { RedirectStandardOutput = true, RedirectStandardError = true };
        using var process = Process.Start(start)!;
        var (said, error) = (process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken));
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, await said, await error);
    }

    /// <summary>Terminals break lines.</summary>
    private static string Flat(string text) => text.ReplaceLineEndings(" ");
}
