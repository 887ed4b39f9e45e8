using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Tests.Cluster;

/// <summary>Silos without devices coordinate, the others compute.</summary>
public sealed class CoordinatorPlacementTests
{
    [Fact]
    public async Task Coordinators_LiveOnSilosWithoutDevices_AndWorkersElsewhere()
    {
        var computed = new System.Collections.Concurrent.ConcurrentDictionary<string, bool>();
        var script = new EngineScript { BeforeShard = (silo, _, _, _) => computed[silo] = true };
        string? coordinator = null;
        await using var cluster = await SmallCluster.StartAsync(silos: 3, script, workers: name =>
        {
            var options = new WorkerOptions();
            // The first that starts.
            if (Interlocked.CompareExchange(ref coordinator, name, null) is null || coordinator == name)
                options.Devices.Add(WorkerOptions.None);
            return options;
        });
        for (var i = 0; i < 4; i++)
        {
            var (snapshot, _) = await cluster.RunAsync($"placed-{i}", TestSpecs.Small);
            Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        }
        var management = cluster.Cluster.Client.GetGrain<IManagementGrain>(0);
        var names = cluster.Cluster.Silos.ToDictionary(silo => silo.SiloAddress, silo => silo.Name);
        var experiments = (await management.GetDetailedGrainStatistics(null, null, TestContext.Current.CancellationToken)).Where(grain => grain.GrainType.Contains("ExperimentGrain", StringComparison.Ordinal)).Select(grain => names[grain.SiloAddress]).ToList();
        Assert.Equal(4, experiments.Count);
        Assert.All(experiments, silo => Assert.Equal(coordinator, silo));
        Assert.DoesNotContain(coordinator!, computed.Keys);
        Assert.NotEmpty(computed);
        var workers = await cluster.Cluster.Client.GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key).ListAsync(TestContext.Current.CancellationToken);
        Assert.Equal(2, workers.Count);
        Assert.DoesNotContain(workers, worker => worker.Silo == coordinator);
    }

    [Theory]
    [InlineData("none", "", null)]
    [InlineData("cpu:0,none", "cpu:0", "holds 'none' beside other devices")]
    [InlineData("", "cpu:0", null)]
    public void Devices_NoneStandsAlone(string devices, string effective, string? problem)
    {
        var options = new WorkerOptions();
        foreach (var device in devices.Split(',', StringSplitOptions.RemoveEmptyEntries))
            options.Devices.Add(device);
        Assert.Equal(effective, string.Join(',', options.EffectiveDevices));
        var problems = options.Validate(new(options)).ToList();
        if (problem is null)
            Assert.Empty(problems);
        else
            Assert.Contains(problem, Assert.Single(problems).ErrorMessage, StringComparison.Ordinal);
    }
}
