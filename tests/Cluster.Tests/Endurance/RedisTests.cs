using AdjointDpm.Cluster.Tests.Servers;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests.Endurance;

/// <summary>Redis is failed over, and loses everything, while the silos stay up.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class RedisTests
{
    /// <summary>A replica follows a moment behind, so what it takes over may be the state of some steps ago: the versions of those must be there still.</summary>
    private static readonly ExperimentSpec Spec = FaultTests.Spec with { Checkpoint = FaultTests.Spec.Checkpoint with { KeepSteps = 5 } };

    [Fact]
    public async Task PrimaryLost_ReplicaPromoted_TheRunGoesOnToTheSameBits()
    {
        await using var primary = await RedisServer.CreateAsync();
        await primary.StartAsync();
        await using var replica = await RedisServer.CreateAsync(of: primary);
        await replica.StartAsync();
        await replica.FollowsAsync();
        await using var cluster = await RealCluster.StartAsync(2, "--Cluster:Provider=redis", $"--Cluster:RedisConnection={primary.Address},{replica.Address},abortConnect=false");
        await cluster.SubmitAsync("over", Spec);
        var before = await cluster.WaitAsync("over", snapshot => snapshot.Trials[0].Step is >= 1 and < 4);
        await primary.KillAsync();
        await replica.PromoteAsync();
        var after = await cluster.WaitAsync("over", snapshot => snapshot.Summary.EndedAt is not null);
        Assert.Equal(before.Trials[0].LossHistory, after.Trials[0].LossHistory.Take(before.Trials[0].LossHistory.Count));
        await FaultTests.SameAsCalmAsync(after);
        Assert.Empty((await (await cluster.ExperimentAsync("over")).AuditAsync(0, TestContext.Current.CancellationToken))!.Violations);
    }

    /// <summary>What is lost is lost; but nobody commits past it, and the cluster takes work again without anybody's help.</summary>
    [Fact]
    public async Task Flushed_WhileSilosStayUp_NothingIsMadeUp_AndNewWorkRuns()
    {
        await using var server = (RedisServer)await StorageServer.StartAsync("redis");
        await using var cluster = await RealCluster.StartAsync(2, server.SiloSettings);
        await cluster.SubmitAsync("flushed", FaultTests.Spec with { Training = FaultTests.Spec.Training with { Steps = 500 } });
        await cluster.WaitAsync("flushed", snapshot => snapshot.Trials[0].Step >= 1);
        await server.FlushAsync();
        // Its next commit finds no row to change, and the experiment is as gone as its state.
        await RealCluster.RetryAsync(async () => Assert.Null(await (await cluster.ExperimentAsync("flushed")).GetSnapshotAsync(TestContext.Current.CancellationToken)));
        await FaultTests.SameAsCalmAsync(await cluster.RunAsync("again", FaultTests.Spec));
    }
}
