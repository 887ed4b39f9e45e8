using System.Diagnostics;
using System.Text.Json.Nodes;

namespace AdjointDpm.Cluster.Tests;

/// <summary>The silo as a program, apart from what it computes.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class HostTests
{
    [Fact]
    public async Task Doctor_TellsWhatWasLoaded()
    {
        using var process = Process.Start(new ProcessStartInfo("dotnet", [SiloProcess.Program, "--doctor"]) { RedirectStandardOutput = true })!;
        var answer = JsonNode.Parse(await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken))!;
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, process.ExitCode);
        Assert.Null(answer["error"]);
        Assert.Contains("cpu:0", answer["devices"]!.AsArray().Select(d => (string?)d));
        Assert.True((int)answer["threads"]! >= 1);
    }

    [Fact]
    public async Task ParentGone_SiloStops()
    {
        var folder = Directory.CreateTempSubdirectory("adpm-parent");
        using var parent = Process.Start("sleep", "600");
        await using (var silo = await SiloProcess.StartAsync("orphan", folder.FullName, null, $"--Silo:ParentProcessId={parent.Id}"))
        {
            parent.Kill();
            await silo.EndedAsync();
        }

        folder.Delete(recursive: true);
    }
}
