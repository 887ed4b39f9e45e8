using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Runtime.Hosting;
using Orleans.TestingHost;

namespace AdjointDpm.Grains.Tests.Cluster;

/// <summary>Two silos in this process over one data folder, with <see cref="ClosedFormEngine"/> for networks.</summary>
internal sealed class SmallCluster : IAsyncDisposable
{
    private readonly InProcessTestCluster _cluster;

    private SmallCluster(InProcessTestCluster cluster, EngineScript script, string folder) => (_cluster, Script, Folder) = (cluster, script, folder);

    public EngineScript Script { get; }

    public string Folder { get; }

    public InProcessTestCluster Cluster => _cluster;

    public static async Task<SmallCluster> StartAsync(short silos = 2, EngineScript? script = null, string? folder = null, Func<string, WorkerOptions>? workers = null)
    {
        script ??= new EngineScript();
        folder ??= Directory.CreateTempSubdirectory("adjointdpm-test-").FullName;
        var builder = new InProcessTestClusterBuilder(silos);
        builder.ConfigureSilo((options, silo) =>
        {
            silo.AddAdjointDpm(folder, workers?.Invoke(options.SiloName) ?? new WorkerOptions());
            silo.Services.AddSingleton(script.On(options.SiloName));
            silo.Services.AddGrainStorage(StorageNames.State, (provider, _) => new FileGrainStorage(Path.Combine(folder, "state"), TimeProvider.System, new LocalDisk()));
        });
        var cluster = builder.Build();
        await cluster.DeployAsync();
        return new SmallCluster(cluster, script, folder);
    }

    public IExperimentGrain Experiment(string id) => _cluster.Client.GetGrain<IExperimentGrain>(id);

    /// <summary>Submits and follows all events to the end.</summary>
    public async Task<(ExperimentSnapshot Snapshot, List<ExperimentEvent> Events)> RunAsync(string id, ExperimentSpec spec)
    {
        await Experiment(id).SubmitAsync(TestSpecs.Submission(spec), TestContext.Current.CancellationToken);
        return await FollowAsync(id);
    }

    public async Task<(ExperimentSnapshot Snapshot, List<ExperimentEvent> Events)> FollowAsync(string id)
    {
        var events = new List<ExperimentEvent>();
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        timeout.CancelAfter(TimeSpan.FromSeconds(240));
        while (events is not [.., { Kind: EventKind.ExperimentEnded }])
        {
            try
            {
                await foreach (var item in Experiment(id).WatchAsync(events.Count, timeout.Token))
                    events.Add(item);
            }
            catch (Exception) when (!timeout.IsCancellationRequested)
            {
                // The silo that served the stream is gone: ask again from where it broke.
                await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, timeout.Token);
            }
        }
        return ((await Experiment(id).GetSnapshotAsync(timeout.Token))!, events);
    }

    public async ValueTask DisposeAsync()
    {
        await _cluster.StopAllSilosAsync();
        await _cluster.DisposeAsync();
        Directory.Delete(Folder, recursive: true);
    }
}
