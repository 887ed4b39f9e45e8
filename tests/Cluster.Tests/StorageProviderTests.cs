using AdjointDpm.Cluster.Tests.Servers;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Membership and state in real servers: the same bits as with files, and through a server that is killed.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class StorageProviderTests
{
    [Theory]
    [InlineData("redis")]
    [InlineData("postgres")]
    public async Task ServerAndAllSilosKilledInMidRun_TheRunGoesOn_AndGivesTheBitsOfFiles(string kind)
    {
        await using var server = await StorageServer.StartAsync(kind);
        await using var cluster = await RealCluster.StartAsync(2, server.SiloSettings);
        await cluster.SubmitAsync("stored", FaultTests.Spec);
        var before = await cluster.WaitAsync("stored", snapshot => snapshot.Trials[0].Step is >= 1 and < 4);

        await server.KillAsync();
        await server.StartAsync();
        var between = await cluster.WaitAsync("stored", snapshot => snapshot.Trials[0].Step > before.Trials[0].Step);
        Assert.Equal(before.Trials[0].LossHistory, between.Trials[0].LossHistory.Take(before.Trials[0].LossHistory.Count));

        if (between.Summary.EndedAt is null)
        {
            await cluster.KillAsync("silo-0");
            await cluster.KillAsync("silo-1");
            await cluster.AddAsync("silo-2", "silo-3");
        }
        await FaultTests.SameAsCalmAsync(await cluster.WaitAsync("stored", snapshot => snapshot.Summary.EndedAt is not null));
    }

    [Fact]
    public async Task RedisFlushedInMidRun_TheClusterGoesOnWithoutWhatWasLost_AndTheSameExperimentGivesTheSameBits()
    {
        await using var server = (RedisServer)await StorageServer.StartAsync("redis");
        await using var cluster = await RealCluster.StartAsync(1, server.SiloSettings);
        await cluster.SubmitAsync("flushed", FaultTests.Spec);
        await cluster.WaitAsync("flushed", snapshot => snapshot.Trials[0].Step is >= 1 and < 4);
        await server.FlushAsync();
        // Whoever operates it starts the silos anew: members and state are gone, and nothing pretends otherwise.
        await cluster.KillAsync("silo-0");
        await cluster.AddAsync("silo-1");
        await RealCluster.RetryAsync(async () => Assert.Null(await (await cluster.ExperimentAsync("flushed")).GetSnapshotAsync(TestContext.Current.CancellationToken)));
        await FaultTests.SameAsCalmAsync(await cluster.RunAsync("again", FaultTests.Spec));
    }

    [Fact]
    public async Task PostgresOutOfReach_OneSentence_WithoutThePassword()
    {
        var (code, error) = await SiloProcess.FailAsync("--Cluster:Provider=postgres", "--Cluster:PostgresConnection=Host=127.0.0.1;Port=1;Database=runs;Username=me;Password=hidden;Timeout=2");
        Assert.Equal(1, code);
        Assert.Contains("database 'runs' on '127.0.0.1:1'", error, StringComparison.Ordinal);
        Assert.DoesNotContain("hidden", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("redis", "Cluster:RedisConnection")]
    [InlineData("postgres", "Cluster:PostgresConnection")]
    public async Task ConnectionNotGiven_OneSentence(string provider, string setting)
    {
        var (code, error) = await SiloProcess.FailAsync($"--Cluster:Provider={provider}");
        Assert.Equal(1, code);
        Assert.Contains($"Cluster:Provider is {provider}, but {setting} is not set", error, StringComparison.Ordinal);
    }
}
