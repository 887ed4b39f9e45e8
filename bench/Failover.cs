using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Bench;

/// <summary>How long a run stands still for when a silo is lost: silos as processes over one folder, shards that sleep, signals.</summary>
internal static partial class Failover
{
    public const string Argument = "failover-silo";
    private const int Silos = 3, Kill = 9, Stop = 19, ComputeMilliseconds = 500;
    private const string Id = "failover";

    /// <summary>This program as a silo, until its input ends.</summary>
    public static async Task RunSiloAsync(string name, string folder)
    {
        using var host = TransportSilo.Host(name, folder, 1000, int.MaxValue, ComputeMilliseconds);
        await host.StartAsync();
        Console.WriteLine("ready");
        await Console.In.ReadToEndAsync();
        await host.StopAsync();
    }

    public static async Task RunAsync(int rounds)
    {
        var folder = Directory.CreateTempSubdirectory("adjointdpm-bench-").FullName;
        var silos = new Dictionary<string, Process>();
        var lease = new FailureSpec().LeaseSeconds;
        try
        {
            foreach (var name in Enumerable.Range(0, Silos).Select(i => $"silo-{i}"))
                silos[name] = await StartAsync(name, folder);
            using var client = await ClientAsync(folder);
            var grains = client.Services.GetRequiredService<IClusterClient>();
            var json = ExperimentSpecJson.Serialize(Spec());
            await grains.GetGrain<IExperimentGrain>(Id).SubmitAsync(new ExperimentSubmission(json, ExperimentSpecJson.Sha256(json), Id));
            Console.WriteLine("| a silo | that | was lost by | seconds until | median (least to most) | limit | runs |");
            Console.WriteLine("|---|---|---|---|---|---|---|");
            foreach (var signal in new[] { Kill, Stop })
            {
                var begun = await RepeatAsync(rounds, async () => await ShardAsync(folder, silos, await CoordinatorAsync(grains), signal));
                Row("computes a shard", signal, "the shard runs elsewhere", begun, signal == Kill ? 5 : 5 + lease);
            }
            foreach (var signal in new[] { Kill, Stop })
            {
                var committed = await RepeatAsync(rounds, async () => await CommitAsync(folder, silos, await CoordinatorAsync(grains), signal));
                Row("coordinates the trial", signal, "the next commit", committed, signal == Kill ? 15 : null);
            }
            await client.StopAsync();
        }
        finally
        {
            foreach (var silo in silos.Values)
                silo.Kill();
            foreach (var silo in silos.Values)
                await silo.WaitForExitAsync();
            Directory.Delete(folder, recursive: true);
        }
    }

    private static void Row(string role, int signal, string until, List<double> seconds, double? limit)
    {
        seconds.Sort();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"| that {role} | {(signal == Kill ? "was killed" : "stands still")} | {(signal == Kill ? "SIGKILL" : "SIGSTOP")} | {until} | {seconds[seconds.Count / 2]:f2} ({seconds[0]:f2} to {seconds[^1]:f2}) | {(limit is { } most ? most.ToString("f0", CultureInfo.InvariantCulture) : "")} | {seconds.Count} |"));
    }

    private static async Task<List<double>> RepeatAsync(int rounds, Func<Task<double?>> once)
    {
        var seconds = new List<double>();
        while (seconds.Count < rounds)
            if (await once() is { } measured)
                seconds.Add(measured);
        return seconds;
    }

    /// <summary>Loses a worker that does not coordinate, in the middle of a gradient.</summary>
    /// <returns>Seconds until another has begun that shard; null when the shard had just ended.</returns>
    private static async Task<double?> ShardAsync(string folder, Dictionary<string, Process> silos, string coordinator, int signal)
    {
        var (victim, mark) = await UntilAsync(() => Marks(folder).Select(mark => (Silo: mark.Worker.Split('/')[0], Mark: mark)).FirstOrDefault(found => found.Silo != coordinator && silos.ContainsKey(found.Silo)));
        Send(silos[victim], signal);
        var clock = Stopwatch.StartNew();
        var held = Marks(folder).Contains(mark);
        if (held)
            await UntilAsync(() => Marks(folder).FirstOrDefault(other => (other.Token.Step, other.Token.Shard) == (mark.Token.Step, mark.Token.Shard) && other.Worker != mark.Worker));
        var seconds = clock.Elapsed.TotalSeconds;
        await ReplaceAsync(folder, silos, victim);
        return held ? seconds : null;
    }

    /// <returns>Seconds from the loss of the coordinator's silo to the next commit.</returns>
    private static async Task<double?> CommitAsync(string folder, Dictionary<string, Process> silos, string coordinator, int signal)
    {
        Send(silos[coordinator], signal);
        var clock = Stopwatch.StartNew();
        var step = StepOf(folder);
        await UntilAsync(() => StepOf(folder) > step ? "committed" : null);
        var seconds = clock.Elapsed.TotalSeconds;
        await ReplaceAsync(folder, silos, coordinator);
        return seconds;
    }

    /// <summary>Starts the silo anew, and waits until it computes.</summary>
    private static async Task ReplaceAsync(string folder, Dictionary<string, Process> silos, string name)
    {
        silos[name].Kill();
        await silos[name].WaitForExitAsync();
        var before = Marks(folder).ToHashSet();
        silos[name] = await StartAsync(name, folder);
        await UntilAsync(() => Marks(folder).FirstOrDefault(mark => mark.Worker == name + "/cpu:0" && !before.Contains(mark)));
        var step = StepOf(folder);
        await UntilAsync(() => StepOf(folder) > step + 1 ? "goes on" : null);
    }

    /// <summary>What workers compute now, and what those that are gone computed.</summary>
    private static List<AttemptMark> Marks(string folder) =>
        [.. Directory.EnumerateFiles(Path.Combine(folder, "begun")).Select(path => AttemptMark.Parse(Path.GetFileName(path), File.ReadAllBytes(path))).OfType<AttemptMark>().Where(mark => mark.Token.Kind == WorkKind.Gradient)];

    /// <summary>Steps committed.</summary>
    private static int StepOf(string folder)
    {
        var state = Directory.GetFiles(Path.Combine(folder, "state", "trial"), "*.state", SearchOption.AllDirectories).Single();
        return int.Parse(Step().Match(File.ReadAllText(state)).Groups[1].ValueSpan, CultureInfo.InvariantCulture);
    }

    private static async Task<T> UntilAsync<T>(Func<T?> found)
    {
        for (var clock = Stopwatch.StartNew(); clock.Elapsed < TimeSpan.FromMinutes(2); await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System))
        {
            try
            {
                if (found() is { } value && !EqualityComparer<T>.Default.Equals(value, default))
                    return value;
            }
            catch (Exception e) when (e is DirectoryNotFoundException or FileNotFoundException or InvalidOperationException or FormatException)
            {
                // Not there yet, or just being replaced.
            }
        }
        throw new TimeoutException("Nothing happened for two minutes.");
    }

    /// <summary>Name of the silo where the trial's coordinator lives.</summary>
    private static async Task<string> CoordinatorAsync(IClusterClient grains)
    {
        while (true)
        {
            try
            {
                var management = grains.GetGrain<IManagementGrain>(0);
                var hosts = await management.GetDetailedHosts(onlyActive: true);
                if ((await management.GetDetailedGrainStatistics()).SingleOrDefault(grain => grain.GrainId.Key.ToString() == Id + "/0") is { } trial && hosts.Length == Silos)
                    return hosts.Single(host => host.SiloAddress.Equals(trial.SiloAddress)).SiloName;
            }
            catch (Exception e) when (e is TimeoutException or SiloUnavailableException or InvalidOperationException or OrleansException)
            {
                // Through silos that come and go.
            }
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
        }
    }

    private static async Task<Process> StartAsync(string name, string folder)
    {
        var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, [Argument, name, folder]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        return await process.StandardOutput.ReadLineAsync() == "ready" ? process : throw new InvalidOperationException("A silo process ended before it was ready; its message is above.");
    }

    private static async Task<IHost> ClientAsync(string folder)
    {
        var builder = Host.CreateApplicationBuilder(new HostApplicationBuilderSettings { ContentRootPath = AppContext.BaseDirectory });
        builder.Logging.ClearProviders();
        builder.UseOrleansClient(client => client.UseAdjointDpmDataFolder(folder));
        var host = builder.Build();
        await host.StartAsync();
        return host;
    }

    private static ExperimentSpec Spec() => new()
    {
        Model = new ModelSpec { Path = "/nowhere" },
        Losses = [new LossSpec { Name = LossName.PixelDistance }],
        Gradient = new GradientSpec { Check = new ProofSpec { Mode = ProofMode.Off } },
        Training = new TrainingSpec { Steps = 10_000, Shards = 8, SamplesPerShard = 1 },
        HeldOut = new HeldOutSpec { Samples = 1 },
        Failure = new FailureSpec { MaxShardAttempts = 100 },
    };

    private static void Send(Process silo, int signal)
    {
        if (SendSignal(silo.Id, signal) != 0)
            throw new InvalidOperationException($"Process {silo.Id} took no signal.");
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int SendSignal(int process, int signal);

    [GeneratedRegex("\"step\":([0-9]+)")]
    private static partial Regex Step();
}
