using System.Globalization;
using AdjointDpm.Cluster.Tests.Servers;

namespace AdjointDpm.Cluster.Tests.Endurance;

/// <summary>A silo whose clock is set in the middle of a run, an hour on and two back: leases, tokens and probes go by what has passed, and the bits stay.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class ClockTests
{
    [Fact]
    public async Task ClockOfASilo_SetForthAndBack_CostsNoStepAndNoBit()
    {
        var packages = await DebianPackages.WithAsync("/usr/bin/faketime", "faketime");
        var clock = Path.Combine(Directory.CreateTempSubdirectory("adjointdpm-clock-").FullName, "clock");
        await SetAsync("+0");
        await using var cluster = await RealCluster.StartAsync(0);
        // The clock that processes wait by goes on as it does: only the time of day is set.
        await cluster.AddWithAsync(
            [$"LD_PRELOAD={packages.PathOf("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")}", $"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"], "silo-0");
        await cluster.AddAsync("silo-1");
        // Long enough to be under way still when a clock is seen to be set.
        var spec = FaultTests.Spec with { Training = FaultTests.Spec.Training with { Steps = 9, SamplesPerShard = 5 } };
        await cluster.SubmitAsync("clock", spec);
        foreach (var offset in new[] { "+3600", "-3600" })
        {
            var step = (await cluster.WaitAsync("clock", snapshot => snapshot.Trials[0].Step >= 1)).Trials[0].Step;
            await SetAsync(offset);
            // It is told by what the silo itself takes for the time.
            await RealCluster.RetryAsync(async () => Assert.InRange((await DateAsync(cluster.Silos[0]) - TimeProvider.System.GetUtcNow()).TotalSeconds - double.Parse(offset, CultureInfo.InvariantCulture), -30, 30));
            Assert.InRange((await cluster.WaitAsync("clock", snapshot => snapshot.Trials[0].Step > step)).Trials[0].Step, step + 1, spec.Training.Steps - 1);
        }
        var ended = await cluster.WaitAsync("clock", snapshot => snapshot.Summary.EndedAt is not null);
        await SetAsync("+0");
        var calm = await cluster.RunAsync("calm", spec);
        FaultTests.Same(calm, ended);
        Assert.Empty((await (await cluster.ExperimentAsync("clock")).AuditAsync(0, TestContext.Current.CancellationToken))!.Violations);

        Task SetAsync(string offset) => File.WriteAllTextAsync(clock, offset + "\n", TestContext.Current.CancellationToken);
    }

    private static async Task<DateTimeOffset> DateAsync(SiloProcess silo)
    {
        using var http = new HttpClient();
        using var answer = await http.GetAsync(new Uri(FormattableString.Invariant($"http://127.0.0.1:{silo.Ready.HttpPort}/health/live")), TestContext.Current.CancellationToken);
        return answer.Headers.Date!.Value;
    }
}
