using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tests.Cluster;

namespace AdjointDpm.Grains.Tests.Replays;

public sealed class StepReplayTests
{
    [Fact]
    public async Task Step_IsRecomputedFromTheNewestKeptVersion_ElseFromTheModel_AndADeviceThatComputesWrongly_IsFound()
    {
        await using var cluster = await SmallCluster.StartAsync();
        // Of four steps the inputs of the newest two are kept: what steps 3 and 4 start from.
        var spec = TestSpecs.Small with { Checkpoint = new CheckpointSpec { KeepSteps = 2 } };
        var (snapshot, _) = await cluster.RunAsync("again", spec);
        Assert.Equal(4, Directory.GetFiles(Path.Combine(cluster.Folder, "trials", "again", "0"), "*.bin").Length);

        foreach (var (step, from) in new[] { (4, 3), (3, 2), (2, 0), (1, 0) })
        {
            var replay = await ReplayAsync(cluster, "again", step);
            Assert.Equal((ReplayState.Equal, from, step - from, 5 * (step - from), null), (replay.State, replay.From, replay.StepsDone, replay.ShardsCompared, replay.Reason));
            Assert.Equal(replay.RecordedSha256, replay.RecomputedSha256);
            Assert.NotEmpty(replay.Workers);
        }
        Assert.Equal(snapshot.Trials[0].ParametersSha256, (await ReplayAsync(cluster, "again", 4)).RecomputedSha256);

        cluster.Script.Bias = 1e-3f;
        var wrong = await ReplayAsync(cluster, "again", 2);
        Assert.Equal((ReplayState.Different, 1), (wrong.State, wrong.StepsDone));
        Assert.Equal(5, wrong.Differences.Count(difference => difference.StartsWith("step 1, shard ", StringComparison.Ordinal)));
        Assert.Contains(wrong.Differences, difference => difference.StartsWith("step 1: gradientNorm is ", StringComparison.Ordinal));
        Assert.Contains(wrong.Differences, difference => difference.StartsWith("step 1: the parameters: SHA-256 ", StringComparison.Ordinal));
    }

    /// <summary>The inputs of a step with encoded gradients are those of the last full one before it: what was left since is made again on the way.</summary>
    [Fact]
    public async Task StepOfEncodedGradients_IsRecomputed_FromTheLastFullOne()
    {
        await using var cluster = await SmallCluster.StartAsync(3, new EngineScript { Parameters = 40_000 });
        var spec = TestSpecs.Small with { Training = TestSpecs.Small.Training with { Steps = 11, GradientEncoding = GradientEncoding.Bf16 }, Checkpoint = new CheckpointSpec { KeepSteps = 4 } };
        var (snapshot, _) = await cluster.RunAsync("halves", spec);
        foreach (var (step, from) in new[] { (11, 8), (9, 8), (8, 0), (3, 0) })
        {
            var replay = await ReplayAsync(cluster, "halves", step);
            Assert.Equal((ReplayState.Equal, from, null), (replay.State, replay.From, replay.Reason));
        }
        await using var alone = await SmallCluster.StartAsync(1, new EngineScript { Parameters = 40_000 });
        Assert.Equal(snapshot.Trials[0].ParametersSha256, (await alone.RunAsync("halves", spec)).Snapshot.Trials[0].ParametersSha256);
    }

    [Fact]
    public async Task Replay_OfWhatWasNotCommitted_OrOfALedgerThatDoesNotHold_SaysSo()
    {
        await using var cluster = await SmallCluster.StartAsync(1);
        await cluster.RunAsync("short", TestSpecs.Small);
        Assert.Equal("Step 5 was not committed. Name one from 1 to 4.", (await ReplayAsync(cluster, "short", 5)).Reason);
        Assert.Equal("There is no trial other/0.", (await ReplayAsync(cluster, "other", 1)).Reason);

        var ledger = Assert.Single(Directory.GetFiles(Path.Combine(cluster.Folder, "trials", "short", "0", RunFolder.LedgerFolder)));
        await File.WriteAllTextAsync(ledger, (await File.ReadAllTextAsync(ledger, TestContext.Current.CancellationToken)).Replace("\"attempt\":1", "\"attempt\":2"), TestContext.Current.CancellationToken);
        Assert.StartsWith("The ledger does not hold, so there is nothing to compare with: ", (await ReplayAsync(cluster, "short", 1)).Reason, StringComparison.Ordinal);
    }

    private static async Task<StepReplay> ReplayAsync(SmallCluster cluster, string experiment, int step)
    {
        var grain = cluster.Cluster.Client.GetGrain<IStepReplayGrain>(IStepReplayGrain.KeyOf(experiment, 0, step));
        while (true)
        {
            var replay = await grain.ReplayAsync(TestContext.Current.CancellationToken);
            if (replay.State != ReplayState.Running)
                return replay;
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, TestContext.Current.CancellationToken);
        }
    }
}
