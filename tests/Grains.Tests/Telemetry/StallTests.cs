using System.Globalization;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Tests.Cluster;
using Microsoft.Extensions.DependencyInjection;
using Orleans.TestingHost;

namespace AdjointDpm.Grains.Tests.Telemetry;

/// <summary>The alert for a trial that stands still goes by its last commit, whoever coordinates it.</summary>
public sealed class StallTests
{
    [Fact]
    public async Task CoordinatorBegunAnewWithoutACommit_LeavesTheAgeOfTheLastOne()
    {
        using var go = new ManualResetEventSlim();
        var script = new EngineScript { BeforeShard = (_, step, _, token) => _ = step < 1 || go.Wait(Timeout.Infinite, token) };
        await using var cluster = await SmallCluster.StartAsync(2, script);
        await cluster.Experiment("stalls").SubmitAsync(TestSpecs.Submission(TestSpecs.Small), TestContext.Current.CancellationToken);
        var (coordinator, epoch, committed) = await CoordinatorAsync(cluster, least: 0);
        await cluster.Cluster.KillSiloAsync(coordinator, TestContext.Current.CancellationToken);
        var (other, next, after) = await CoordinatorAsync(cluster, least: epoch + 1);
        Assert.NotEqual(coordinator.Name, other.Name);
        Assert.True(next > epoch);
        Assert.Equal(committed, after);
        go.Set();
        Assert.Null((await cluster.FollowAsync("stalls")).Snapshot.Reason);
    }

    /// <summary>Where a trial that has committed its first step is coordinated, by which epoch at least, and when it committed.</summary>
    private static async Task<(InProcessSiloHandle Silo, double Epoch, double Committed)> CoordinatorAsync(SmallCluster cluster, double least)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        patience.CancelAfter(TimeSpan.FromSeconds(120));
        while (true)
        {
            foreach (var silo in cluster.Cluster.Silos)
            {
                var told = silo.ServiceProvider.GetRequiredService<LiveGauges>().Read().Split('\n');
                if (Of(AdjointDpmMetrics.TrialStep) == 1 && Of(AdjointDpmMetrics.TrialEpoch) is { } epoch && epoch >= least)
                    return (silo, epoch, Of(AdjointDpmMetrics.TrialCommitted)!.Value);

                double? Of(MetricDescription metric) => told.FirstOrDefault(line => line.StartsWith(metric.PrometheusName + "{", StringComparison.Ordinal)) is { } line ? double.Parse(line.Split(' ')[^1], CultureInfo.InvariantCulture) : null;
            }
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, patience.Token);
        }
    }
}
