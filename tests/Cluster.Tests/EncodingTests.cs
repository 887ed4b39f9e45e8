using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Gradients that travel in half the bytes: what rounding leaves is part of the run like everything else.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class EncodingTests
{
    // Long enough for a silo to be killed, started anew and another one killed.
    private static readonly ExperimentSpec Spec = FaultTests.Spec with { Sample = new SampleSpec { Steps = 8 }, Training = FaultTests.Spec.Training with { GradientEncoding = GradientEncoding.Bf16 } };

    [Fact]
    public async Task Bf16_OneSiloOrThree_InRanges_AndWithKills_GiveTheSameBits_AndAuditAndReplayHold()
    {
        ExperimentSnapshot calm;
        await using (var one = await RealCluster.StartAsync(1))
            calm = await one.RunAsync("calm", Spec);
        Assert.True(calm.Summary.State == RunState.Succeeded, calm.Reason);

        await using var cluster = await RealCluster.StartAsync(3);
        // The worker that has what a shard's step left, then the coordinator that knows it.
        await cluster.SubmitAsync("kill", Spec);
        foreach (var victimIsTheCoordinator in new[] { false, true })
        {
            var least = victimIsTheCoordinator ? 3 : 1;
            await cluster.WaitAsync("kill", snapshot => snapshot.Trials[0].Step >= least);
            var coordinator = await FaultTests.CoordinatorAsync(cluster, "kill/0");
            var victim = cluster.Silos.First(silo => victimIsTheCoordinator == (silo.Ready.SiloPort == coordinator));
            await cluster.KillAsync(victim.Name);
            await cluster.AddAsync(victim.Name);
        }
        var ended = await cluster.WaitAsync("kill", snapshot => snapshot.Summary.EndedAt is not null);
        FaultTests.Same(calm, ended);
        var audit = await (await cluster.ExperimentAsync("kill")).AuditAsync(0, TestContext.Current.CancellationToken);
        Assert.True(audit!.Holds, string.Join('\n', audit.Violations));
        var replay = await ReplayTests.ReplayAsync(cluster, "kill", 4);
        Assert.True(replay.State == ReplayState.Equal, $"{replay.Reason} {string.Join('\n', replay.Differences)}");

        await using var ranges = await RealCluster.StartAsync(2, "--Workers:RangeBytes=20000", "--Workers:TensorStreamBytes=4096");
        Assert.Equal(calm.Trials[0].ParametersSha256, (await ranges.RunAsync("ranges", Spec)).Trials[0].ParametersSha256);
    }
}
