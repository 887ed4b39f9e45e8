using System.Collections.Concurrent;
using System.Diagnostics;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.LocalCluster;

namespace AdjointDpm.Client.Tests.LocalCluster;

/// <summary>Real processes; only what runs in them is a script.</summary>
[Collection("processes")]
public sealed class SiloProcessesTests : IDisposable
{
    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    private readonly string _folder = Directory.CreateTempSubdirectory("adpm-silos-").FullName;
    private readonly ConcurrentQueue<string> _notices = [];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Start_AllJoin_LogsAndStopsThem()
    {
        var silos = new SiloProcesses(Options(2));
        await silos.StartAsync(Cancellation);
        var ids = silos.ProcessIds;
        Assert.Equal(2, ids.Count);
        await silos.DisposeAsync();
        Assert.All(ids, id => Assert.False(Alive(id)));
        var log = Log("silo-1");
        Assert.Contains($"starting silo-1 threads=3 parent={Environment.ProcessId}", log);
        Assert.Contains("stopping silo-1", log);
        Assert.Empty(_notices);
    }

    [Fact]
    public async Task SiloDies_IsStartedAgainAndTold()
    {
        await using var silos = new SiloProcesses(Options(2));
        await silos.StartAsync(Cancellation);
        using (var victim = Process.GetProcessById(FirstPid("silo-0"))) victim.Kill();
        await Until(() => Pids("silo-0").Length == 2);
        Assert.Matches(@"^silo-0 was killed by signal 9 \(SIGKILL: by hand, or for lack of memory\)\. Starting it again \(1 of 3\)\. Its log: .*silo-0\.log$", Assert.Single(_notices));
        Assert.Equal(2, silos.ProcessIds.Count);
        Assert.False(silos.Lost.IsCompleted);
    }

    [Fact]
    public async Task SiloThatAlwaysDies_IsGivenUpAndTheClusterLost()
    {
        Mode("dies");
        await using var silos = new SiloProcesses(Options(1));
        await silos.StartAsync(Cancellation);
        var lost = await Assert.ThrowsAsync<CommandFailure>(() => silos.Lost.WaitAsync(TimeSpan.FromSeconds(120), Cancellation));
        Assert.Equal("No silo is left.", lost.Message);
        Assert.Equal(4, _notices.Count);
        Assert.Contains("was killed by signal 6 (SIGABRT: a native library gave up) and was started again 3 times already", _notices.Last());
    }

    [Fact]
    public async Task SiloFailsAtTheStart_TheReasonIsInTheMessage()
    {
        Mode("fails");
        await using var silos = new SiloProcesses(Options(1));
        var failure = await Assert.ThrowsAsync<CommandFailure>(() => silos.StartAsync(Cancellation));
        Assert.Equal("silo-0 ended with exit code 7 before it was ready.", failure.Message);
        Assert.Contains("libtorch is missing", failure.Advice);
    }

    [Fact]
    public async Task ProgramMissing_SaysWhatToInstall()
    {
        await using var silos = new SiloProcesses(Options(1) with { Command = new SiloCommand("/no/such/dotnet", ["silo.dll"]) });
        var failure = await Assert.ThrowsAsync<CommandFailure>(() => silos.StartAsync(Cancellation));
        Assert.StartsWith("'/no/such/dotnet' cannot be started:", failure.Message);
    }

    [Fact]
    public async Task StubbornSilo_IsKilledInTheEnd()
    {
        Mode("stubborn");
        var silos = new SiloProcesses(Options(1) with { StopWithin = TimeSpan.FromMilliseconds(200) });
        await silos.StartAsync(Cancellation);
        var id = Assert.Single(silos.ProcessIds);
        await silos.DisposeAsync();
        await Until(() => !Alive(id));
        Assert.EndsWith("and was killed.", Assert.Single(_notices));
    }

    [Fact]
    public async Task Kill_EndsThemAtOnce()
    {
        await using var silos = new SiloProcesses(Options(2));
        await silos.StartAsync(Cancellation);
        var ids = silos.ProcessIds;
        silos.Kill();
        await Until(() => ids.All(id => !Alive(id)));
        Assert.Empty(silos.ProcessIds);
    }

    [Fact]
    public async Task Finish_SilosAreStoppedByUs_OrLeftToFinish()
    {
        await using (var stopped = new SiloProcesses(Options(1) with { Finish = true }))
            await stopped.StartAsync(Cancellation);
        Assert.All(Pids("silo-0"), pid => Assert.False(Alive(int.Parse(pid, System.Globalization.CultureInfo.InvariantCulture))));
        var log = Log("silo-0");
        Assert.Contains("stopping silo-0", log);
        Assert.Contains("--Silo:FinishWithoutParent=true", log);

        var left = new SiloProcesses(Options(1) with { Finish = true });
        await left.StartAsync(Cancellation);
        left.Leave();
        var id = Assert.Single(left.ProcessIds);
        // Not of our session: what ends the terminal does not end it.
        Assert.NotEqual(SessionOf(Environment.ProcessId), SessionOf(id));
        await left.DisposeAsync();
        using var process = Process.GetProcessById(id);
        Assert.False(process.HasExited);
        process.Kill(entireProcessTree: true);
        await process.WaitForExitAsync(Cancellation);
    }

    private static string SessionOf(int id) => File.ReadAllText($"/proc/{id}/stat").Split(") ")[1].Split(' ')[3];

    [Fact]
    public async Task Keep_SilosOutliveUs()
    {
        var silos = new SiloProcesses(Options(1) with { Keep = true });
        await silos.StartAsync(Cancellation);
        var id = Assert.Single(silos.ProcessIds);
        await silos.DisposeAsync();
        using var process = Process.GetProcessById(id);
        Assert.False(process.HasExited);
        Assert.Contains("starting silo-0 threads=3 parent=\n", Log("silo-0"));
        process.Kill(entireProcessTree: true);
        await process.WaitForExitAsync(Cancellation);
    }

    [Fact]
    public void Find_LooksAtTheVariableThenBesideThenInTheBuild()
    {
        var bin = Path.Combine(_folder, "bin");
        var (client, built, beside, given) = (Path.Combine(bin, "Client", "release"), Path.Combine(bin, "Silo", "release"), Path.Combine(bin, "Client", "release", "silo"), Path.Combine(_folder, "given"));
        foreach (var folder in new[] { built, beside, given })
        {
            Directory.CreateDirectory(folder);
            File.WriteAllText(Path.Combine(folder, "AdjointDpm.Silo.dll"), "");
        }

        Assert.Equal(Path.Combine(given, "AdjointDpm.Silo.dll"), SiloCommand.Find(_ => given, client).File);
        Assert.Equal(Path.Combine(beside, "AdjointDpm.Silo.dll"), SiloCommand.Find(_ => null, client).File);
        Directory.Delete(beside, recursive: true);
        Assert.Equal(Path.Combine(built, "AdjointDpm.Silo.dll"), SiloCommand.Find(_ => null, client).File);
        Directory.Delete(built, recursive: true);
        Assert.StartsWith("The silo was not found. Looked for", Assert.Throws<CommandFailure>(() => SiloCommand.Find(_ => null, client)).Message);
        Assert.Equal("ADJOINTDPM_SILO names '/no', but there is no such file.", Assert.Throws<CommandFailure>(() => SiloCommand.Find(_ => "/no", client)).Message);
    }

    private LocalClusterOptions Options(int silos) => new()
    {
        Command = new SiloCommand("/bin/sh", [Repository.Path(Path.Combine(Path.GetDirectoryName(ThisFile())!, "fake-silo.sh"))]),
        Silos = silos, DataFolder = _folder, Threads = 3, MaxRestarts = 3, RestartAfter = TimeSpan.FromMilliseconds(20), ReadyWithin = TimeSpan.FromSeconds(120),
        Notice = _notices.Enqueue,
    };

    private static string ThisFile([System.Runtime.CompilerServices.CallerFilePath] string path = "") => path;

    private void Mode(string mode) => File.WriteAllText(Path.Combine(_folder, "mode"), mode);

    private string Log(string name) => File.ReadAllText(Path.Combine(_folder, "logs", name + ".log"));

    private string[] Pids(string name) => File.Exists(Path.Combine(_folder, name + ".pids")) ? File.ReadAllLines(Path.Combine(_folder, name + ".pids")) : [];

    private int FirstPid(string name) => int.Parse(Pids(name)[0], System.Globalization.CultureInfo.InvariantCulture);

    private static bool Alive(int id)
    {
        try
        {
            using var process = Process.GetProcessById(id);
            return !process.HasExited;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    private static async Task Until(Func<bool> condition)
    {
        var started = TimeProvider.System.GetTimestamp();
        while (!condition())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(started) < TimeSpan.FromSeconds(120), "The condition did not come true within 120 s.");
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, Cancellation);
        }
    }
}
