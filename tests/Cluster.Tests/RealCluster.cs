using System.Diagnostics;
using System.Net;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Silo processes over one data folder, and a client that finds them by it.</summary>
internal sealed class RealCluster : IAsyncDisposable
{
    /// <summary>Silos are processes that want a processor each.</summary>
    public const string OneAtATime = "silo processes";

    private readonly List<SiloProcess> _silos = [];
    private IHost? _client;

    private readonly string[] _settings;

    private RealCluster(string folder, string[] settings) => (Folder, _settings) = (folder, settings);

    public string Folder { get; }

    public IReadOnlyList<SiloProcess> Silos => _silos;

    /// <summary>What the client shows a secured cluster.</summary>
    public (string? TlsFolder, string? TokenFile) Credentials { get; init; }

    /// <summary>Starts silos, each with these settings besides its own.</summary>
    public static Task<RealCluster> StartAsync(int silos, params string[] settings) => StartAsync(silos, default, settings);

    /// <summary>Starts silos, and shows them these credentials.</summary>
    public static async Task<RealCluster> StartAsync(int silos, (string? TlsFolder, string? TokenFile) credentials, params string[] settings)
    {
        var cluster = new RealCluster(Directory.CreateTempSubdirectory("adjointdpm-cluster-").FullName, settings) { Credentials = credentials };
        await cluster.AddAsync([.. Enumerable.Range(0, silos).Select(i => $"silo-{i}")]);
        return cluster;
    }

    public async Task AddAsync(params string[] names)
    {
        _silos.AddRange(await Task.WhenAll(names.Select(name => SiloProcess.StartAsync(name, Folder, null, _settings))));
        // Only the data folder tells a client of gateways that came later.
        if (_settings.Length > 0)
            await ForgetClientAsync();
    }

    /// <summary>Ends a silo as an orchestrator does, and starts it again under its name and ports.</summary>
    /// <returns>How long it took to end.</returns>
    public async Task<TimeSpan> RestartAsync(string name)
    {
        var silo = _silos.Single(silo => silo.Name == name);
        var began = TimeProvider.System.GetTimestamp();
        Assert.Equal(0, await silo.TerminateAsync());
        var took = TimeProvider.System.GetElapsedTime(began);
        _silos.Remove(silo);
        await silo.DisposeAsync();
        _silos.Add(await SiloProcess.StartAsync(name, Folder, silo.Ready, _settings));
        return took;
    }

    /// <summary>Adds silos of another build.</summary>
    public async Task AddOfAsync(string program, params string[] names) =>
        _silos.AddRange(await Task.WhenAll(names.Select(name => SiloProcess.StartAsync(program, name, Folder, null, _settings))));

    /// <summary>Adds silos by a command of their own.</summary>
    public async Task AddByAsync(string[] command, params string[] names) =>
        _silos.AddRange(await Task.WhenAll(names.Select(name => SiloProcess.StartByAsync(command, name, Folder, _settings))));

    /// <summary>Silos with settings of their own, which do not change how clients find them.</summary>
    public async Task AddWithAsync(string[] settings, params string[] names) =>
        _silos.AddRange(await Task.WhenAll(names.Select(name => SiloProcess.StartAsync(name, Folder, null, settings))));

    public async Task KillAsync(string name)
    {
        var silo = _silos.Single(silo => silo.Name == name);
        await silo.DisposeAsync();
        _silos.Remove(silo);
    }

    public async Task<IExperimentGrain> ExperimentAsync(string id) => (await ClientAsync()).GetGrain<IExperimentGrain>(id);

    public async Task<IClusterClient> ClientAsync()
    {
        if (_client is null)
        {
            var builder = Host.CreateApplicationBuilder();
            builder.Logging.ClearProviders();
            builder.UseOrleansClient(client => (_settings.Length == 0
                ? client.UseAdjointDpmDataFolder(Folder)
                : client.UseAdjointDpmGateways([.. _silos.Select(silo => new IPEndPoint(IPAddress.Loopback, silo.Ready.GatewayPort))])).UseAdjointDpmCredentials(Credentials.TlsFolder, Credentials.TokenFile));
            _client = builder.Build();
            await _client.StartAsync(TestContext.Current.CancellationToken);
        }
        return _client.Services.GetRequiredService<IClusterClient>();
    }

    public async Task SubmitAsync(string id, ExperimentSpec spec)
    {
        var json = ExperimentSpecJson.Serialize(spec);
        await RetryAsync(async () => await (await ExperimentAsync(id)).SubmitAsync(new ExperimentSubmission(json, ExperimentSpecJson.Sha256(json), "test"), TestContext.Current.CancellationToken));
    }

    public async Task<ExperimentSnapshot> RunAsync(string id, ExperimentSpec spec)
    {
        await SubmitAsync(id, spec);
        return await WaitAsync(id, snapshot => snapshot.Summary.EndedAt is not null);
    }

    /// <summary>Asks until a condition holds, through silos that come and go.</summary>
    public async Task<ExperimentSnapshot> WaitAsync(string id, Func<ExperimentSnapshot, bool> condition)
    {
        var (snapshot, holds) = await WaitForAsync(id, condition, TimeSpan.FromSeconds(150));
        Assert.True(holds, $"The condition did not come true in 150 s. Last: {Describe(snapshot)}\n{string.Join("\n", Silos.Select(silo => $"--- {silo.Name}\n{silo.Log}"))}");
        return snapshot!;
    }

    /// <summary>Asks until a condition holds or the time is over.</summary>
    public async Task<(ExperimentSnapshot? Last, bool Holds)> WaitForAsync(string id, Func<ExperimentSnapshot, bool> condition, TimeSpan patience)
    {
        using var timeout = new CancellationTokenSource(patience);
        ExperimentSnapshot? last = null;
        while (true)
        {
            await RetryAsync(async () => last = await (await ExperimentAsync(id)).GetSnapshotAsync(TestContext.Current.CancellationToken));
            if (last is not null && condition(last))
                return (last, true);
            if (timeout.IsCancellationRequested)
                return (last, false);
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, TestContext.Current.CancellationToken);
        }
    }

    /// <summary>Returns while a device of the silo computes a gradient.</summary>
    public async Task ComputesAsync(SiloProcess silo) => Assert.NotNull(await ComputingAsync((other, begun) => other == silo && begun[0] == "Gradient", () => false));

    /// <summary>A silo that is there and computes such a piece of work; null when the condition came first.</summary>
    /// <param name="which">Silo, and what stands on its worker's slate: kind, step, shard, epoch, attempt, trial.</param>
    /// <param name="until">Condition.</param>
    public async Task<SiloProcess?> ComputingAsync(Func<SiloProcess, string[], bool> which, Func<bool> until)
    {
        var folder = Directory.CreateDirectory(Path.Combine(Folder, "begun")).FullName;
        for (var waited = Stopwatch.StartNew(); !until(); await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System, TestContext.Current.CancellationToken))
        {
            Assert.True(waited.Elapsed < TimeSpan.FromSeconds(180), $"Nothing was begun in 180 s:\n{string.Join('\n', Silos.Select(silo => silo.Log))}");
            foreach (var silo in Silos)
                foreach (var slate in Directory.EnumerateFiles(folder, $"{silo.Name}%2F*{Uri.EscapeDataString($":{silo.Ready.SiloPort}@")}*"))
                    if ((await File.ReadAllTextAsync(slate, TestContext.Current.CancellationToken)).TrimEnd().Split(' ') is { Length: 6 } begun && which(silo, begun))
                        return silo;
        }
        return null;
    }

    public async ValueTask DisposeAsync()
    {
        await ForgetClientAsync();
        foreach (var silo in _silos)
            await silo.DisposeAsync();
        Directory.Delete(Folder, recursive: true);
    }

    private async Task ForgetClientAsync()
    {
        if (_client is null)
            return;
        await _client.StopAsync(CancellationToken.None);
        _client.Dispose();
        _client = null;
    }

    private static string Describe(ExperimentSnapshot? snapshot) => snapshot is null
        ? "nothing"
        : $"{snapshot.Summary.State}, {string.Join("; ", snapshot.Trials.Select(t => $"{t.Index}: {t.State} {t.Phase} step {t.Step} {t.Reason}"))}";

    public static async Task RetryAsync(Func<Task> call)
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                await call();
                return;
            }
            catch (Exception e) when (e is not ArgumentException && attempt < 40 && !TestContext.Current.CancellationToken.IsCancellationRequested)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(250), TimeProvider.System, TestContext.Current.CancellationToken);
            }
        }
    }
}
