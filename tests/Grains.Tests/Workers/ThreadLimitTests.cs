using System.Collections.Concurrent;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tests.Cluster;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.DependencyInjection;

namespace AdjointDpm.Grains.Tests.Workers;

/// <summary>A silo takes no work that asks for more threads than it has cores for.</summary>
public sealed class ThreadLimitTests
{
    [Fact]
    public async Task WorkThatAsksForMoreThreadsThanASiloOffers_GoesToOthers()
    {
        var used = new ConcurrentDictionary<string, int>();
        var script = new EngineScript { BeforeShard = (silo, _, _, _) => used.AddOrUpdate(silo, 1, (_, n) => n + 1) };
        string? small = null;
        await using var cluster = await SmallCluster.StartAsync(2, script, workers: silo => new WorkerOptions { MaxThreads = (small ??= silo) == silo ? 2 : null });
        var inventories = cluster.Cluster.Silos.Select(silo => silo.ServiceProvider.GetRequiredService<IWorkerInventory>()).ToList();
        while (inventories.Any(inventory => inventory.List(DeviceKind.Cpu).Count < 2))
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, TestContext.Current.CancellationToken);
        var other = inventories[0].List(DeviceKind.Cpu).Single(worker => WorkerInventory.SiloOf(worker) != small);
        Assert.All(inventories, inventory =>
        {
            Assert.Equal(2, inventory.List(DeviceKind.Cpu, 2).Count);
            Assert.Equal([other], inventory.List(DeviceKind.Cpu, 3));
        });
        var (snapshot, _) = await cluster.RunAsync("wide", TestSpecs.Small with { Resources = TestSpecs.Small.Resources with { Threads = 3 } });
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        Assert.Equal([WorkerInventory.SiloOf(other)], used.Keys);
    }
}
