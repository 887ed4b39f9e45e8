using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Workers taken out of use, and silos that are asked to stop: real processes, on purpose and not by accident.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class CordonTests
{
    /// <summary>No lease runs out within the time of a test: what is given out again was handed back.</summary>
    private static readonly ExperimentSpec Patient = FaultTests.Spec with { Failure = new FailureSpec { LeaseSeconds = 100, MaxShardAttempts = 20 } };

    [Fact]
    public async Task CordonedWorker_ContributesNothing_AndStaysCordonedWhenAllSilosRestart()
    {
        await using var cluster = await RealCluster.StartAsync(2);
        await SeenAsync(cluster, "silo-0/cpu:0", "silo-1/cpu:0");
        await CordonAsync(cluster, "silo-0/cpu:0");
        var before = await cluster.RunAsync("before", Patient);
        await FaultTests.SameAsCalmAsync(before);
        Assert.Equal(["silo-1/cpu:0"], Contributors(cluster, "before"));

        foreach (var name in new[] { "silo-0", "silo-1" })
            Assert.Equal(0, await cluster.Silos.Single(silo => silo.Name == name).TerminateAsync());
        foreach (var name in new[] { "silo-0", "silo-1" })
            await cluster.KillAsync(name);
        await cluster.AddAsync("silo-0", "silo-1");
        // Submitted before anything is asked: a silo that has just started must not give it work either.
        var after = await cluster.RunAsync("after", Patient);
        await FaultTests.SameAsCalmAsync(after);
        Assert.Equal(["silo-1/cpu:0"], Contributors(cluster, "after"));
        var workers = await SeenAsync(cluster, "silo-0/cpu:0", "silo-1/cpu:0");
        Assert.Equal([(WorkerState.Cordoned, true, 0L), (WorkerState.Ready, false, workers[1].ShardsDone)], workers.Select(worker => (worker.State, worker.Cordoned, worker.ShardsDone)));

        await CordonAsync(cluster, "silo-1/cpu:0");
        await cluster.SubmitAsync("wait", Patient);
        await UntilAsync(() => Task.FromResult(cluster.Silos.Any(silo => silo.Log.Contains("all there are, 2, are cordoned", StringComparison.Ordinal))), "No silo says that all are cordoned.");
        await CordonAsync(cluster, "silo-0/cpu:0", cordoned: false);
        await FaultTests.SameAsCalmAsync(await cluster.WaitAsync("wait", snapshot => snapshot.Summary.EndedAt is not null));
        Assert.Equal(["silo-0/cpu:0"], Contributors(cluster, "wait"));
    }

    [Fact]
    public async Task SiloToldToStopInMidShard_HandsItBack_AndNoLeaseRunsOut()
    {
        // A stop can fall between two shards. Every run must end in the same bits; one of them must have handed a shard back.
        for (var attempt = 1; await StopOnceAsync() == 0; attempt++)
            Assert.True(attempt < 12, "No stop hit a leased shard.");
    }

    /// <summary>Stops a worker's silo by SIGTERM while it computes, checks the result, and returns how many shards it handed back.</summary>
    private static async Task<int> StopOnceAsync()
    {
        await using var cluster = await RealCluster.StartAsync(2);
        await cluster.SubmitAsync("stop", Patient);
        await cluster.WaitAsync("stop", snapshot => snapshot.Trials[0].Step is >= 1 and < 4);
        var coordinator = await FaultTests.CoordinatorAsync(cluster, "stop/0");
        var (victim, other) = (cluster.Silos.Single(silo => silo.Ready.SiloPort != coordinator), cluster.Silos.Single(silo => silo.Ready.SiloPort == coordinator));
        await cluster.ComputesAsync(victim);
        Assert.Equal(0, await victim.TerminateAsync());
        var snapshot = await cluster.WaitAsync("stop", snapshot => snapshot.Summary.EndedAt is not null);
        await FaultTests.SameAsCalmAsync(snapshot);
        Assert.Equal(0, await other.CountAsync("adjointdpm_lease_expirations_total"));
        var handedBack = other.Log.Split('\n').Count(line => line.Contains($"Silo {victim.Name} is stopping.", StringComparison.Ordinal));
        // The runtime may move a coordinator whose entry in the grain directory lay on the silo that left; the next one counts its own reissues only.
        if (handedBack > 0 && !other.Log.Contains("Trial stop/0 goes on from step", StringComparison.Ordinal))
            Assert.True(snapshot.Trials[0].ShardsReissued >= handedBack, $"{handedBack} handed back, {snapshot.Trials[0].ShardsReissued} given out again:\n{other.Log}");
        return handedBack;
    }

    private static List<string> Contributors(RealCluster cluster, string id) =>
        [.. new RunFolder(cluster.Folder).Ledger(id, 0).SelectMany(file => file.Lines).Select(LedgerRecord.Parse).SelectMany(record => record!.Contributions).Select(contribution => contribution.Worker).Distinct()];

    internal static async Task CordonAsync(RealCluster cluster, string worker, bool cordoned = true) =>
        Assert.Empty(await (await DirectoryAsync(cluster)).CordonAsync([worker], cordoned, TestContext.Current.CancellationToken));

    private static async Task<IWorkerDirectoryGrain> DirectoryAsync(RealCluster cluster) => (await cluster.ClientAsync()).GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key);

    /// <summary>The workers, once these answer.</summary>
    private static async Task<IReadOnlyList<WorkerDescription>> SeenAsync(RealCluster cluster, params string[] names)
    {
        IReadOnlyList<WorkerDescription> workers = [];
        await UntilAsync(async () =>
        {
            await RealCluster.RetryAsync(async () => workers = await (await DirectoryAsync(cluster)).DescribeAsync(TestContext.Current.CancellationToken));
            return workers.Select(worker => worker.Name).SequenceEqual(names) && workers.All(worker => worker.State is not (WorkerState.Silent or WorkerState.Absent) && worker.Work.Count == 0);
        }, "The workers are not those that were expected.");
        return workers;
    }

    private static async Task UntilAsync(Func<Task<bool>> condition, string otherwise)
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(120));
        while (!await condition())
        {
            Assert.False(timeout.IsCancellationRequested, otherwise);
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, TestContext.Current.CancellationToken);
        }
    }
}
