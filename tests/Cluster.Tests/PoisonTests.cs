using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Silos that die of what they compute: real processes, aborted as libtorch aborts them, at the moment at which they begin with a shard.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class PoisonTests
{
    [Fact]
    public async Task NativeAbortInMidShard_CostsOneShard_AndTheBitsAreTheSame()
    {
        // An abort can come when the shard has just ended. Every run must end in the same bits; in one of them a shard must have been given out again.
        for (var attempt = 1; await AbortOnceAsync() == 0; attempt++)
            Assert.True(attempt < 12, "No abort hit a shard in hand.");
    }

    /// <summary>Aborts a worker's silo once, and returns how many shards were given out again.</summary>
    private static async Task<int> AbortOnceAsync()
    {
        await using var cluster = await RealCluster.StartAsync(2);
        await cluster.SubmitAsync("abort", FaultTests.Spec);
        await cluster.WaitAsync("abort", snapshot => snapshot.Trials[0].Step is >= 1 and < 4);
        var coordinator = await FaultTests.CoordinatorAsync(cluster, "abort/0");
        var victim = cluster.Silos.Single(silo => silo.Ready.SiloPort != coordinator);
        await cluster.ComputesAsync(victim);
        Assert.NotEqual(0, await victim.AbortAsync());
        var snapshot = await cluster.WaitAsync("abort", snapshot => snapshot.Summary.EndedAt is not null);
        await FaultTests.SameAsCalmAsync(snapshot);
        // The one that it computed and the one that waited there; and both once more, if they were offered to the silo again before its end was known.
        Assert.InRange(snapshot.Trials[0].ShardsReissued, 0, 4);
        return snapshot.Trials[0].ShardsReissued;
    }

    /// <summary>Every silo dies of it in turn, whoever coordinates; when none is left they are started anew.</summary>
    [Fact]
    public async Task ShardThatKillsEverySilo_FailsItsTrial_WithTheEvidence_WhileAnotherExperimentGoesOn()
    {
        string[] names = ["silo-0", "silo-1"];
        var failure = new FailureSpec { LeaseSeconds = 2.0, MaxShardAttempts = names.Length };
        // Shards of half a second or more: longer than a test takes to see that one has begun.
        var poison = FaultTests.Spec with
        {
            Sample = new SampleSpec { Steps = 16 },
            Gradient = new GradientSpec { Check = new ProofSpec { Mode = ProofMode.Off } },
            Training = FaultTests.Spec.Training with { Steps = 50 },
            Failure = failure,
        };
        await using var cluster = await RealCluster.StartAsync(names.Length);
        await cluster.SubmitAsync("poison", poison);
        await cluster.SubmitAsync("healthy", FaultTests.Spec with { Failure = failure });
        var report = Path.Combine(cluster.Folder, "experiments", "poison", "report.json");
        var aborted = 0;
        while (await cluster.ComputingAsync((_, begun) => begun is ["Gradient", _, "1", _, _, "poison/0"], () => File.Exists(report)) is { } silo)
        {
            await silo.AbortAsync();
            await cluster.KillAsync(silo.Name);
            aborted++;
            Assert.True(aborted < 20, $"{aborted} silos were lost to the shard.");
            if (cluster.Silos.Count == 0)
                await cluster.AddAsync(names);
        }
        var snapshot = await cluster.WaitAsync("poison", snapshot => snapshot.Summary.EndedAt is not null);
        Assert.Equal(RunState.Failed, snapshot.Summary.State);
        TestContext.Current.TestOutputHelper?.WriteLine($"{aborted} silos aborted. {snapshot.Reason}");
        Assert.Matches($"Step [0-9]+, shard 1 was lost {names.Length} times, .+ Attempt [0-9]+ of coordinator [0-9]+: silo-[0-2]/cpu:0: ", snapshot.Reason);
        await FaultTests.SameAsCalmAsync(await cluster.WaitAsync("healthy", snapshot => snapshot.Summary.EndedAt is not null));
    }
}
