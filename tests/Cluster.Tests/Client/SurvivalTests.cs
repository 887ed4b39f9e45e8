using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests.Client;

/// <summary>A run survives its client: a closed terminal, a crash, or no client at all. Real client, real silos.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class SurvivalTests : IAsyncDisposable
{
    private const int Hangup = 1, Interrupt = 2, Kill = 9;

    private readonly string _folder = Directory.CreateTempSubdirectory("adpm-survives-").FullName;

    private string Data => Path.Combine(_folder, "runs");

    public async ValueTask DisposeAsync()
    {
        foreach (var silo in await SilosAsync())
        {
            using var process = Process.GetProcessById(silo);
            process.Kill();
            await process.WaitForExitAsync(CancellationToken.None);
        }

        Directory.Delete(_folder, recursive: true);
    }

    [Theory]
    [InlineData(Hangup)]
    [InlineData(Kill)]
    public async Task Run_WhoseClientIsGone_GoesOn_IsPickedUp_AndItsSilosEndWithIt(int signal)
    {
        await File.WriteAllTextAsync(Path.Combine(_folder, "digits.yaml"), Yaml(steps: 40), TestContext.Current.CancellationToken);
        var id = IdOf(await AdpmProcess.RunAsync(_folder, "config", "digits.yaml"));
        await using (var run = AdpmProcess.Start(_folder, "run", "digits.yaml"))
        {
            await run.SaidAsync("step 1/40");
            run.Signal(signal);
            Assert.Equal(signal == Hangup ? 130 : 137, await run.EndedAsync(TimeSpan.FromSeconds(30)));
        }

        var silo = Assert.Single(await SilosAsync());
        // The same command again follows what runs, and starts no second silo beside it.
        await using (var again = AdpmProcess.Start(_folder, "run", "digits.yaml"))
        {
            await again.SaidAsync("on the silos that run on runs already");
            await again.SaidAsync("step ");
            again.Signal(Interrupt);
            Assert.Equal(130, await again.EndedAsync(TimeSpan.FromSeconds(30)));
            Assert.Contains($"The silos go on. Follow the experiment again with: adpm watch {id} --data runs", again.Error, StringComparison.Ordinal);
        }

        Assert.Equal([silo], await SilosAsync());
        var (code, told, error) = await AdpmProcess.RunAsync(_folder, "watch", id, "--json");
        Assert.True(code == 0, error);
        Assert.Equal("succeeded", (string?)JsonNode.Parse(told.TrimEnd('\n').Split('\n')[^1])!["experiment"]!["state"]);
        Assert.True(File.Exists(Path.Combine(Data, "experiments", id, "report.html")));
        // Nobody is left to stop it.
        await GoneAsync(silo);

        // Nothing was computed twice by whoever went and came.
        var (audited, audit, _) = await AdpmProcess.RunAsync(_folder, "audit", id, "--data", "runs", "--json");
        Assert.Equal(0, audited);
        Assert.Equal(1, (int)JsonNode.Parse(audit)!["trials"]![0]!["coordinators"]!);
    }

    [Fact]
    public async Task Detached_ItReturnsAtOnce_AndIsThereAfterwards()
    {
        await File.WriteAllTextAsync(Path.Combine(_folder, "digits.yaml"), Yaml(steps: 3), TestContext.Current.CancellationToken);
        var (code, told, error) = await AdpmProcess.RunAsync(_folder, "run", "digits.yaml", "--detach", "--json");
        Assert.True(code == 0, error);
        var id = (string?)JsonNode.Parse(told)!["id"]!;
        Assert.Contains($"adpm watch {id} --data runs", error, StringComparison.Ordinal);
        var silo = Assert.Single(await SilosAsync());
        var (watched, shown, why) = await AdpmProcess.RunAsync(_folder, "watch", id!);
        Assert.True(watched == 0, why);
        Assert.Contains("succeeded", shown, StringComparison.Ordinal);
        await GoneAsync(silo);
    }

    [Fact]
    public async Task Interrupted_ItStopsItsSilos_AndTheSameCommandGoesOn()
    {
        await File.WriteAllTextAsync(Path.Combine(_folder, "digits.yaml"), Yaml(steps: 40), TestContext.Current.CancellationToken);
        await using (var run = AdpmProcess.Start(_folder, "run", "digits.yaml"))
        {
            await run.SaidAsync("step 2/40");
            run.Signal(Interrupt);
            Assert.Equal(130, await run.EndedAsync(TimeSpan.FromMinutes(1)));
            Assert.Contains("Go on with the same command: adpm run digits.yaml", run.Error, StringComparison.Ordinal);
        }

        Assert.Empty(await SilosAsync());
        var (code, _, error) = await AdpmProcess.RunAsync(_folder, "run", "digits.yaml");
        Assert.True(code == 0, error);
        Assert.Contains("Going on after 0 trials ended", error, StringComparison.Ordinal);
        Assert.DoesNotContain("step 1/40", error, StringComparison.Ordinal);
        Assert.Empty(await SilosAsync());
    }

    [Fact]
    public async Task Demo_FromOneWordToItsPage()
    {
        var (code, told, error) = await AdpmProcess.RunAsync(Repository.Root, "demo", "--output", Path.Combine(_folder, "demo"), "--json");
        Assert.True(code == 0, error);
        var document = JsonNode.Parse(told)!;
        var trial = document["trials"]![0]!;
        Assert.Equal("succeeded", (string?)trial["state"]);
        Assert.True((double)trial["metrics"]!["heldOut.loss.after"]! < (double)trial["metrics"]!["heldOut.loss.before"]!);
        Assert.True((bool)trial["proof"]!["passed"]!);
        var page = await File.ReadAllTextAsync(Path.Combine((string)document["artifactFolder"]!, "report.html"), TestContext.Current.CancellationToken);
        Assert.Contains("data:image/png;base64,", page, StringComparison.Ordinal);
        Assert.Contains("The gradient was proven in its trial", page, StringComparison.Ordinal);
    }

    private static string Yaml(int steps) => ExperimentYaml.Write("digits", ExperimentSpecJson.Serialize(DigitsSpecs.Small with { Training = DigitsSpecs.Small.Training with { Steps = steps } }));

    private static string IdOf((int ExitCode, string Out, string Error) config) => config.Error.Split("Its id is ")[1].Trim().TrimEnd('.');

    /// <summary>Processes of the silos that live on the data folder.</summary>
    private async Task<List<int>> SilosAsync()
    {
        var file = new MembershipFile(Data, AdjointDpmCluster.ClusterId, TimeProvider.System);
        if ((await new FileGatewayListProvider(file).GetGateways()).Count == 0)
            return [];
        var alive = new List<int>();
        foreach (var log in Directory.GetFiles(Path.Combine(Data, "logs"), "*.log"))
            foreach (var line in await File.ReadAllLinesAsync(log, TestContext.Current.CancellationToken))
                if (SiloReady.TryParse(line, out var ready) && IsAlive(ready.ProcessId))
                    alive.Add(ready.ProcessId);
        return alive;
    }

    private static bool IsAlive(int id) => File.Exists(string.Create(CultureInfo.InvariantCulture, $"/proc/{id}/stat")) && !File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{id}/stat")).Split(") ")[1].StartsWith('Z');

    private static async Task GoneAsync(int silo)
    {
        for (var waited = Stopwatch.StartNew(); IsAlive(silo); await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, TestContext.Current.CancellationToken))
            Assert.True(waited.Elapsed < TimeSpan.FromMinutes(2), $"Silo {silo} is still there two minutes after its experiment ended.");
    }
}
