using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests;

/// <summary>The promise that a run is the same run whatever happens: equal SHA-256 of the trained parameters.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class FaultTests
{
    internal static readonly ExperimentSpec Spec = DigitsSpecs.Small with { Training = DigitsSpecs.Small.Training with { Steps = 5, Shards = 8, SamplesPerShard = 10 } };

    /// <summary>All shards of all its steps, each counted once.</summary>
    internal static long Contributions => Spec.Training.Steps * Spec.Training.Shards;

    private static readonly Lazy<Task<ExperimentSnapshot>> Calm = new(async () =>
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var snapshot = await cluster.RunAsync("calm", Spec);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        return snapshot;
    });

    [Fact]
    public async Task TwoSilos_GiveTheBitsOfOne()
    {
        await using var cluster = await RealCluster.StartAsync(2);
        var snapshot = await cluster.RunAsync("two", Spec);
        await SameAsCalmAsync(snapshot);
        var worked = 0;
        foreach (var silo in cluster.Silos)
            worked += await silo.CountAsync("adjointdpm_vjps_total") > 0 ? 1 : 0;
        Assert.Equal(2, worked);
    }

    [Theory]
    [InlineData("worker")]
    [InlineData("coordinator")]
    public async Task SiloKilledInMidShard_GivesTheSameBits(string victimIsThe)
    {
        // A kill can fall between two shards. Every run must end in the same bits; one of them must have lost a lease.
        for (var attempt = 1; await KillOnceAsync(victimIsThe) == 0; attempt++)
            Assert.True(attempt < 12, "No kill hit a leased shard.");
    }

    /// <summary>Kills one silo while its device computes a gradient, checks the result, and returns how many shards were given out again.</summary>
    private static async Task<int> KillOnceAsync(string victimIsThe)
    {
        await using var cluster = await RealCluster.StartAsync(2);
        await cluster.SubmitAsync("kill", Spec);
        await cluster.WaitAsync("kill", snapshot => snapshot.Trials[0].Step is >= 1 and < 4);
        var coordinator = await CoordinatorAsync(cluster, "kill/0");
        var victim = cluster.Silos.Single(silo => victimIsThe == "coordinator" == (silo.Ready.SiloPort == coordinator));
        await cluster.ComputesAsync(victim);
        await cluster.KillAsync(victim.Name);
        var snapshot = await cluster.WaitAsync("kill", snapshot => snapshot.Summary.EndedAt is not null);
        await SameAsCalmAsync(snapshot);
        // A new coordinator counts its own reissues only; that it had to start over is what was wanted of this kill.
        return victimIsThe == "worker" ? snapshot.Trials[0].ShardsReissued : 1;
    }

    [Fact]
    public async Task WorkerHangsInMidShard_ItsLeasesExpire_AndTheBitsAreTheSame()
    {
        await using var cluster = await RealCluster.StartAsync(2);
        await cluster.SubmitAsync("hang", Spec);
        await cluster.WaitAsync("hang", snapshot => snapshot.Trials[0].Step is >= 1 and < 4);
        var coordinator = await CoordinatorAsync(cluster, "hang/0");
        var victim = cluster.Silos.Single(silo => silo.Ready.SiloPort != coordinator);
        await cluster.ComputesAsync(victim);
        victim.Hang();
        var snapshot = await cluster.WaitAsync("hang", snapshot => snapshot.Summary.EndedAt is not null);
        await SameAsCalmAsync(snapshot);
        Assert.True(snapshot.Trials[0].ShardsReissued >= 1, "The hang hit no leased shard.");
        Assert.True(await cluster.Silos.Single(silo => silo != victim).CountAsync("adjointdpm_lease_expirations_total") >= 1);
    }

    [Fact]
    public async Task AllSilosKilledAndRestarted_GoOnFromTheLastCommit()
    {
        await using var cluster = await RealCluster.StartAsync(2);
        await cluster.SubmitAsync("dark", Spec);
        var before = await cluster.WaitAsync("dark", snapshot => snapshot.Trials[0].Step is >= 2 and < 4);
        await cluster.KillAsync("silo-0");
        await cluster.KillAsync("silo-1");
        await cluster.AddAsync("silo-0", "silo-1");
        var snapshot = await cluster.WaitAsync("dark", snapshot => snapshot.Summary.EndedAt is not null);
        await SameAsCalmAsync(snapshot);
        Assert.Equal(before.Trials[0].LossHistory, snapshot.Trials[0].LossHistory.Take(before.Trials[0].LossHistory.Count));
    }

    /// <summary>Silo port of the silo where a trial's coordinator lives.</summary>
    internal static async Task<int> CoordinatorAsync(RealCluster cluster, string trial)
    {
        var grains = await (await cluster.ClientAsync()).GetGrain<IManagementGrain>(0).GetDetailedGrainStatistics();
        return grains.Single(grain => grain.GrainId.Key.ToString() == trial).SiloAddress.Endpoint.Port;
    }

    internal static async Task SameAsCalmAsync(ExperimentSnapshot snapshot) => Same(await Calm.Value, snapshot);

    /// <summary>Whether both succeeded, with the same bits of parameters, losses and metrics.</summary>
    internal static void Same(ExperimentSnapshot calm, ExperimentSnapshot other)
    {
        Assert.All([calm, other], snapshot => Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason));
        var (expected, trial) = (calm.Trials[0], other.Trials[0]);
        Assert.NotNull(expected.ParametersSha256);
        Assert.Equal(expected.ParametersSha256, trial.ParametersSha256);
        Assert.Equal(expected.LossHistory, trial.LossHistory);
        Assert.Equal(expected.Metrics.OrderBy(m => m.Key), trial.Metrics.OrderBy(m => m.Key));
    }
}
