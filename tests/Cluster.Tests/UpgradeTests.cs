using System.Globalization;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Cluster.Tests;

/// <summary>
/// One silo after the other is ended and started anew while an experiment runs. <c>ADJOINTDPM_OLD_SILO</c> names AdjointDpm.Silo.dll of
/// another build (upgrade-from.sh makes it): then the cluster begins with that one and ends with this one, and both serve it meanwhile. Figures are
/// recorded; what is asserted leaves room for a busy machine.
/// </summary>
[Collection(RealCluster.OneAtATime)]
public sealed class UpgradeTests(ITestOutputHelper output)
{
    [Fact]
    public async Task RollingRestartOfThreeSilos_LosesNoStep()
    {
        await using var cluster = await RealCluster.StartAsync(0);
        await cluster.AddOfAsync(Environment.GetEnvironmentVariable("ADJOINTDPM_OLD_SILO") ?? SiloProcess.Program, "silo-0", "silo-1", "silo-2");
        await cluster.SubmitAsync("rolling", FaultTests.Spec with { Training = FaultTests.Spec.Training with { Steps = 2000 } });
        foreach (var name in new[] { "silo-0", "silo-1", "silo-2" })
        {
            var before = (await cluster.WaitAsync("rolling", snapshot => snapshot.Trials[0].Step >= 1)).Trials[0].Step;
            var stopped = await cluster.RestartAsync(name);
            var after = await cluster.WaitAsync("rolling", snapshot => snapshot.Trials[0].Step > before);
            Assert.Null(after.Summary.EndedAt);
            Assert.True(stopped < TimeSpan.FromSeconds(20), $"{name} took {stopped} to end.");
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name} ended in {stopped.TotalSeconds:f2} s at step {before}."));
        }
        await RealCluster.RetryAsync(async () => Assert.True(await (await cluster.ExperimentAsync("rolling")).CancelAsync(TestContext.Current.CancellationToken)));
        var snapshot = await cluster.WaitAsync("rolling", snapshot => snapshot.Summary.EndedAt is not null);

        // Every step is committed once, in order, and the ledger proves the shards.
        var steps = new List<(int Step, DateTimeOffset Time)>();
        await foreach (var happened in (await cluster.ExperimentAsync("rolling")).WatchAsync(0, TestContext.Current.CancellationToken))
            if (happened.Kind == EventKind.StepCommitted)
                steps.Add((happened.Step!.Value, happened.Time));
        Assert.Equal(Enumerable.Range(1, snapshot.Trials[0].Step), steps.Select(step => step.Step));
        var audit = await (await cluster.ExperimentAsync("rolling")).AuditAsync(0, TestContext.Current.CancellationToken);
        Assert.Empty(audit!.Violations);
        var gaps = steps.Zip(steps.Skip(1), (a, b) => (b.Time - a.Time).TotalSeconds).OrderDescending().ToList();
        Assert.True(gaps[0] < 40, $"The run stood still for {gaps[0]:f1} s.");
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Longest times between two committed steps: {string.Join(", ", gaps.Take(4).Select(gap => gap.ToString("f1", CultureInfo.InvariantCulture)))} s; median {gaps[gaps.Count / 2]:f2} s."));
    }
}
