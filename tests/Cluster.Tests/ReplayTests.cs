using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests;

/// <summary>A step of a real network, computed once more by other processes.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class ReplayTests
{
    [Fact]
    public async Task StepsOfAnEndedRun_HaveTheirBitsAgain_OnOtherSilos()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        var ended = await cluster.RunAsync("again", DigitsSpecs.Small with { Checkpoint = new CheckpointSpec { SheetRows = 2, KeepSteps = 1 } });
        Assert.True(ended.Summary.State == RunState.Succeeded, ended.Reason);
        await cluster.KillAsync("silo-0");
        await cluster.AddAsync("silo-1", "silo-2");

        // The last step from its kept inputs; the one before from the model's files, on two silos instead of one.
        foreach (var (step, from) in new[] { (3, 2), (2, 0) })
        {
            var replay = await ReplayAsync(cluster, "again", step);
            Assert.True(replay.State == ReplayState.Equal, $"{replay.Reason} {string.Join('\n', replay.Differences)}");
            Assert.Equal((from, (step - from) * 4), (replay.From, replay.ShardsCompared));
            Assert.Equal(replay.RecordedSha256, replay.RecomputedSha256);
            Assert.Equal(["silo-1/cpu:0", "silo-2/cpu:0"], replay.Workers);
        }
    }

    internal static async Task<StepReplay> ReplayAsync(RealCluster cluster, string experiment, int step)
    {
        using var timeout = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        var grain = (await cluster.ClientAsync()).GetGrain<IStepReplayGrain>(IStepReplayGrain.KeyOf(experiment, 0, step));
        while (true)
        {
            // Through a client whose gateways may just have been replaced.
            StepReplay? replay = null;
            await RealCluster.RetryAsync(async () => replay = await grain.ReplayAsync(timeout.Token));
            if (replay!.State != ReplayState.Running)
                return replay;
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, timeout.Token);
        }
    }
}
