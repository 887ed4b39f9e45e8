using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace AdjointDpm.Grains.Tests.Cluster;

public sealed class SiloLogTests
{
    [Fact]
    public async Task Logs_AreThoseOfAllSilos_AndOnlyWhatIsNew()
    {
        await using var cluster = await SmallCluster.StartAsync();
        await cluster.RunAsync("logged", TestSpecs.Small);
        var directory = cluster.Cluster.Client.GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key);
        var messages = await directory.GetLogsAsync(new Dictionary<string, long>(), 1000, TestContext.Current.CancellationToken);
        Assert.Equal(2, messages.Select(message => message.Silo).Distinct().Count());
        Assert.Contains(messages, message => message.Text.Contains("logged/0", StringComparison.Ordinal));
        foreach (var silo in messages.GroupBy(message => message.Silo))
            Assert.Equal(silo.Select(message => message.Number).Order(), silo.Select(message => message.Number));
        var known = messages.GroupBy(message => message.Silo).ToDictionary(silo => silo.Key, silo => silo.Max(message => message.Number));
        Assert.All(await directory.GetLogsAsync(known, 1000, TestContext.Current.CancellationToken), message => Assert.True(message.Number > known[message.Silo]));
        Assert.All((await directory.GetLogsAsync(new Dictionary<string, long>(), 1, TestContext.Current.CancellationToken)).GroupBy(message => message.Silo), silo => Assert.Single(silo));
    }

    [Fact]
    public void RecentLog_KeepsTheNewest_OneLineEach_AndNothingBelowInformation()
    {
        using var log = new RecentLog(new FakeTimeProvider());
        var logger = log.CreateLogger("A.B");
        logger.Log(LogLevel.Debug, 0, "quiet", null, (state, _) => state);
        for (var i = 1; i <= 2500; i++)
            logger.Log(LogLevel.Warning, 0, $"message {i}", new IOException("one\ntwo"), (state, _) => state);
        Assert.Equal("A.B: message 2500 (IOException: one two)", Assert.Single(log.After(2499, 10)).Text);
        Assert.Equal(2000, log.After(0, int.MaxValue).Count);
        Assert.Equal([2499L, 2500], log.After(0, 2).Select(message => message.Number));
        logger.Log(LogLevel.Error, 0, new string('x', 5000), null, (state, _) => state);
        Assert.InRange(log.After(2500, 1)[0].Text.Length, 1900, 2100);
    }
}
