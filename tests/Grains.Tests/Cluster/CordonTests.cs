using System.Collections.Concurrent;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.DependencyInjection;
using Orleans.TestingHost;

namespace AdjointDpm.Grains.Tests.Cluster;

/// <summary>Workers that get no new shards: who is asked, what is stored, and that the bits do not depend on it.</summary>
public sealed class CordonTests
{
    /// <summary>Leases that nobody loses here, and no shard that is taken over for its age.</summary>
    private static readonly ExperimentSpec Patient = TestSpecs.Small with { Failure = new FailureSpec { LeaseSeconds = 120, MaxShardAttempts = 5 } };

    [Fact]
    public async Task Cordoned_GetsNothing_UntilUncordoned_AndTheBitsAreTheSame()
    {
        var used = new ConcurrentDictionary<string, int>();
        var script = new EngineScript { BeforeShard = (silo, _, _, _) => used.AddOrUpdate(silo, 1, (_, n) => n + 1) };
        await using var cluster = await SmallCluster.StartAsync(2, script);
        var directory = Directory(cluster);
        var names = (await SeenAsync(cluster, 2)).Select(worker => worker.Name).ToList();
        Assert.All(await directory.DescribeAsync(TestContext.Current.CancellationToken), worker => Assert.Equal((WorkerState.Ready, false), (worker.State, worker.Cordoned)));

        Assert.Empty(await directory.CordonAsync([names[0]], cordoned: true, TestContext.Current.CancellationToken));
        // Every silo was told before the answer: nobody waits here.
        Assert.All(cluster.Cluster.Silos, silo => Assert.Equal([names[1]], Inventory(silo).List(DeviceKind.Cpu)));
        Assert.Equal([WorkerState.Cordoned, WorkerState.Ready], (await directory.DescribeAsync(TestContext.Current.CancellationToken)).Select(worker => worker.State));
        var (first, _) = await cluster.RunAsync("one", Patient);
        Assert.True(first.Summary.State == RunState.Succeeded, first.Reason);
        Assert.Equal([names[1]], used.Keys.Select(silo => $"{silo}/cpu:0"));
        var done = await directory.DescribeAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, done[0].ShardsDone);
        // Gradients of 4 steps in 5 shards, and what comes before and after them.
        Assert.InRange(done[1].ShardsDone, 21, int.MaxValue);

        Assert.Empty(await directory.CordonAsync([names[0]], cordoned: false, TestContext.Current.CancellationToken));
        var (second, _) = await cluster.RunAsync("two", Patient);
        Assert.Equal(2, used.Count);
        Assert.NotNull(first.Trials[0].ParametersSha256);
        Assert.Equal(first.Trials[0].ParametersSha256, second.Trials[0].ParametersSha256);
    }

    [Fact]
    public async Task CordonedInMidShard_EndsWhatItHolds_AndIsThenDrained()
    {
        var script = new EngineScript();
        var held = new TaskCompletionSource<string>(TaskCreationOptions.RunContinuationsAsynchronously);
        var after = new ConcurrentQueue<(string Silo, int Step)>();
        using var go = new ManualResetEventSlim();
        var cordoned = false;
        script.BeforeShard = (silo, step, _, token) =>
        {
            if (held.TrySetResult(silo))
                go.Wait(token);
            else if (Volatile.Read(ref cordoned))
                after.Enqueue((silo, step));
        };
        await using var cluster = await SmallCluster.StartAsync(2, script);
        var directory = Directory(cluster);
        await SeenAsync(cluster, 2);
        await cluster.Experiment("drain").SubmitAsync(TestSpecs.Submission(Patient), TestContext.Current.CancellationToken);
        var silo = await held.Task.WaitAsync(TimeSpan.FromSeconds(120), TestContext.Current.CancellationToken);
        var name = silo + "/cpu:0";

        Assert.Empty(await directory.CordonAsync([name], cordoned: true, TestContext.Current.CancellationToken));
        Volatile.Write(ref cordoned, true);
        var draining = await DescribeAsync(cluster, name);
        Assert.Equal((WorkerState.Draining, true), (draining.State, draining.Cordoned));
        var running = Assert.Single(draining.Work, work => work.Progress == WorkProgress.Running);
        Assert.Equal(("drain/0", "gradient", 1), (running.Run, running.Kind, running.Step));
        go.Set();
        await UntilAsync(async () => (await DescribeAsync(cluster, name)).State == WorkerState.Cordoned);
        var (snapshot, _) = await cluster.FollowAsync("drain");
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        Assert.Equal(0, snapshot.Trials[0].ShardsReissued);
        // What it held when it was cordoned, all of the first step, and nothing later.
        Assert.All(after.Where(work => work.Silo == silo), work => Assert.Equal(0, work.Step));
        Assert.Contains(after, work => work.Step == 3);
    }

    [Fact]
    public async Task AllCordoned_TheRunWaits_AndGoesOnWhenOneIsUncordoned()
    {
        await using var cluster = await SmallCluster.StartAsync(1);
        var directory = Directory(cluster);
        var name = (await SeenAsync(cluster, 1))[0].Name;
        Assert.Empty(await directory.CordonAsync([name], cordoned: true, TestContext.Current.CancellationToken));
        var inventory = Inventory(cluster.Cluster.Silos[0]);
        Assert.Equal((0, 1), (inventory.List(DeviceKind.Cpu).Count, inventory.Cordoned(DeviceKind.Cpu)));
        await cluster.Experiment("wait").SubmitAsync(TestSpecs.Submission(Patient), TestContext.Current.CancellationToken);
        await UntilAsync(async () => (await cluster.Experiment("wait").GetSnapshotAsync(TestContext.Current.CancellationToken))!.Trials is [{ State: RunState.Running }]);
        Assert.Equal(0, (await DescribeAsync(cluster, name)).ShardsDone);
        Assert.Empty(await directory.CordonAsync([name], cordoned: false, TestContext.Current.CancellationToken));
        Assert.Equal(RunState.Succeeded, (await cluster.FollowAsync("wait")).Snapshot.Summary.State);
    }

    [Fact]
    public async Task UnknownName_ChangesNothing_AndCordonIsKeptInStorage()
    {
        await using var cluster = await SmallCluster.StartAsync(1);
        var directory = Directory(cluster);
        var name = (await SeenAsync(cluster, 1))[0].Name;
        Assert.Equal(["nobody/cpu:0"], await directory.CordonAsync([name, "nobody/cpu:0"], cordoned: true, TestContext.Current.CancellationToken));
        Assert.False((await DescribeAsync(cluster, name)).Cordoned);

        Assert.Empty(await directory.CordonAsync([name], cordoned: true, TestContext.Current.CancellationToken));
        await cluster.Cluster.RestartSiloAsync(cluster.Cluster.Silos[0]);
        // The next silo reads it from the folder; a worker that is away can be named as well.
        await UntilAsync(async () => (await directory.DescribeAsync(TestContext.Current.CancellationToken)).Any(worker => worker is { Cordoned: true } && worker.Name == name));
        Assert.Empty(await directory.CordonAsync([name], cordoned: false, TestContext.Current.CancellationToken));
        Assert.DoesNotContain(await directory.DescribeAsync(TestContext.Current.CancellationToken), worker => worker.Cordoned);
    }

    [Fact]
    public void Inventory_TakesNothingBackThatIsOlder()
    {
        var inventory = new WorkerInventory(null!, null!, TimeProvider.System);
        Assert.False(inventory.Knows);
        Assert.Empty(inventory.List(DeviceKind.Cpu));
        Assert.Null(inventory.Cordoned(DeviceKind.Cpu));
        inventory.Learn(new CordonedWorkers(2, ["a/cpu:0"]));
        inventory.Learn(new CordonedWorkers(1, []));
        Assert.True(inventory.IsCordoned("a/cpu:0"));
        inventory.Learn(new CordonedWorkers(3, []));
        Assert.False(inventory.IsCordoned("a/cpu:0"));
    }

    private static IWorkerDirectoryGrain Directory(SmallCluster cluster) => cluster.Cluster.Client.GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key);

    private static IWorkerInventory Inventory(InProcessSiloHandle silo) => silo.SiloHost.Services.GetRequiredService<IWorkerInventory>();

    /// <summary>The workers, once every silo sees all of them and knows that none is cordoned.</summary>
    private static async Task<IReadOnlyList<WorkerDescription>> SeenAsync(SmallCluster cluster, int workers)
    {
        await UntilAsync(() => Task.FromResult(cluster.Cluster.Silos.All(silo => Inventory(silo).List(DeviceKind.Cpu).Count == workers)));
        return await Directory(cluster).DescribeAsync(TestContext.Current.CancellationToken);
    }

    private static async Task<WorkerDescription> DescribeAsync(SmallCluster cluster, string name) =>
        (await Directory(cluster).DescribeAsync(TestContext.Current.CancellationToken)).Single(worker => worker.Name == name);

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        timeout.CancelAfter(TimeSpan.FromSeconds(120));
        while (!await HoldsAsync())
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, timeout.Token);

        async Task<bool> HoldsAsync()
        {
            try
            {
                return await condition();
            }
            catch (Exception e) when (e is OrleansException or TimeoutException)
            {
                // The client's connection to a silo that was started anew comes back by itself, not at once.
                return false;
            }
        }
    }
}
