using System.Globalization;
using AdjointDpm.Cluster.Tests.Servers;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests;

/// <summary>
/// Real processes killed at a phase of a step; every run must end with the bits of the undisturbed one and a ledger that holds.
/// CI runs two of the pairs; <c>ADJOINTDPM_KILLS=all</c> runs them all, <c>ADJOINTDPM_KILLS=paused</c> those of such victims.
/// </summary>
[Collection(RealCluster.OneAtATime)]
public sealed class KillMatrixTests
{
    private static readonly string? Kills = Environment.GetEnvironmentVariable("ADJOINTDPM_KILLS");

    private static readonly bool All = Kills == "all";

    private static readonly string[] Victims = ["worker", "coordinator", "every silo", "paused worker", "paused coordinator"];

    private static readonly string[] Phases = ["computing", "written", "recorded", "committed"];

    [Fact]
    public async Task ProcessKilledAtAPhaseOfAStep_GivesTheSameBits()
    {
        (string Victim, string Phase)[] pairs = Kills is not null
            ? [.. from victim in Victims where All || victim.Contains(Kills, StringComparison.Ordinal) from phase in Phases select (victim, phase)]
            : [("coordinator", "recorded"), ("paused coordinator", "committed")];
        await using var cluster = await RealCluster.StartAsync(3);
        var kills = 0;
        foreach (var (victim, phase) in pairs)
        {
            var id = $"{victim}-{phase}".Replace(' ', '-');
            var started = TimeProvider.System.GetTimestamp();
            kills += await KillAsync(cluster, id, victim, phase);
            await EndsAsCalmAsync(cluster, id);
            TestContext.Current.TestOutputHelper?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{victim} at {phase}: {TimeProvider.System.GetElapsedTime(started).TotalSeconds:f1} s"));
        }
        Assert.Equal(pairs.Sum(pair => pair.Victim == "every silo" ? 3 : 1), kills);
    }

    [Fact]
    public async Task StorageServerKilledAtAPhaseOfAStep_GivesTheSameBits()
    {
        foreach (var kind in All ? ["redis", "postgres"] : new[] { "redis" })
        {
            await using var server = await StorageServer.StartAsync(kind);
            await using var cluster = await RealCluster.StartAsync(2, server.SiloSettings);
            foreach (var phase in All ? ["computing", "written", "recorded"] : new[] { "recorded" })
            {
                var id = $"{kind}-{phase}";
                await SubmitAsync(cluster, id);
                await ReachedAsync(cluster, id, phase, cluster.Silos[0]);
                await server.KillAsync();
                await server.StartAsync();
                await EndsAsCalmAsync(cluster, id);
            }
        }
    }

    [Fact]
    public async Task WorkersThatJoinAndLeaveMidRun_GiveOneHash()
    {
        // Eight shards on 1, 2, 3, 4 and 7 workers in one run, and then on fewer again; and on what is left once more, from the start.
        var spec = FaultTests.Spec with { Sample = new SampleSpec { Steps = 8 }, Training = FaultTests.Spec.Training with { Steps = All ? 60 : 24, SamplesPerShard = 5 } };
        int[] sizes = All ? [2, 3, 4, 7] : [2, 4];
        await using var cluster = await RealCluster.StartAsync(1);
        await cluster.SubmitAsync("elastic", spec);
        foreach (var workers in sizes)
        {
            await cluster.AddAsync([.. Enumerable.Range(cluster.Silos.Count, workers - cluster.Silos.Count).Select(i => $"silo-{i}")]);
            // A step begins with the workers known by then: one that is ready may miss the next step, so it is the ledger that tells.
            await cluster.WaitAsync("elastic", snapshot => snapshot.Summary.EndedAt is not null || WorkersAtEachStep(cluster, "elastic").Contains(workers));
        }
        foreach (var leaver in cluster.Silos.Where((_, i) => i % 2 == 0).Select(silo => silo.Name).ToArray())
            await cluster.KillAsync(leaver);
        var elastic = await cluster.WaitAsync("elastic", snapshot => snapshot.Summary.EndedAt is not null);
        var workersOf = WorkersAtEachStep(cluster, "elastic");
        TestContext.Current.TestOutputHelper?.WriteLine($"Workers at each step: {string.Join(' ', workersOf)}");
        Assert.All(sizes, workers => Assert.Contains(workers, workersOf));
        Assert.True(workersOf[^1] < sizes[^1], "The run ended before the workers that left were missed.");

        var calm = await cluster.RunAsync("calm", spec);
        FaultTests.Same(calm, elastic);
    }

    [Fact]
    public async Task AnyNumberOfWorkersFromTheStart_GivesOneHash()
    {
        foreach (var workers in All ? [2, 3, 4, 7] : new[] { 3 })
        {
            // One of the processes computes two shards at once on its device.
            await using var cluster = await RealCluster.StartAsync(workers - 2);
            await cluster.AddWithAsync(["--Workers:ShardsAtOnce=2"], "shared");
            await cluster.SubmitAsync("fixed", FaultTests.Spec);
            await EndsAsCalmAsync(cluster, "fixed");
            var all = WorkersOfSteps(cluster, "fixed").SelectMany(step => step).ToHashSet();
            Assert.Superset(new HashSet<string> { "shared/cpu:0", "shared/cpu:0.1" }, all);
        }
    }

    private static async Task<int> KillAsync(RealCluster cluster, string id, string victim, string phase)
    {
        await SubmitAsync(cluster, id);
        var coordinator = await FaultTests.CoordinatorAsync(cluster, $"{id}/0");
        var silo = cluster.Silos.First(silo => victim.EndsWith("coordinator", StringComparison.Ordinal) == (silo.Ready.SiloPort == coordinator));
        await ReachedAsync(cluster, id, phase, silo);
        if (victim == "every silo")
        {
            var names = cluster.Silos.Select(silo => silo.Name).ToArray();
            await Task.WhenAll(cluster.Silos.Select(silo => silo.KillAsync()));
            foreach (var name in names)
                await cluster.KillAsync(name);
            await cluster.AddAsync(names);
            return names.Length;
        }
        if (victim.StartsWith("paused", StringComparison.Ordinal))
        {
            silo.Hang();
            // Long enough to be given up; then it goes on where it stood.
            await cluster.WaitForAsync(id, snapshot => snapshot.Summary.EndedAt is not null, TimeSpan.FromSeconds(20));
            silo.Resume();
            await cluster.WaitAsync(id, snapshot => snapshot.Summary.EndedAt is not null);
        }
        else
        {
            await silo.KillAsync();
        }
        await cluster.KillAsync(silo.Name);
        await cluster.AddAsync(silo.Name);
        return 1;
    }

    private static async Task SubmitAsync(RealCluster cluster, string id)
    {
        await cluster.SubmitAsync(id, FaultTests.Spec);
        await cluster.WaitAsync(id, snapshot => snapshot.Trials[0].Step >= 1);
    }

    /// <summary>Returns at a phase of a step: a gradient is computed, parameters are on the disk, the step is in the ledger, the state names it.</summary>
    private static async Task ReachedAsync(RealCluster cluster, string id, string phase, SiloProcess silo)
    {
        if (phase == "computing")
        {
            await cluster.ComputesAsync(silo);
            return;
        }
        var (folder, suffix) = phase == "committed" ? (Path.Combine(cluster.Folder, "state", "trial"), ".state")
            : (Path.Combine(cluster.Folder, "trials", id, "0"), phase == "written" ? ".bin" : ".jsonl");
        var reached = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var watcher = new FileSystemWatcher(folder) { IncludeSubdirectories = true };
        watcher.Created += (_, e) => Look(e.Name);
        watcher.Renamed += (_, e) => Look(e.Name);
        watcher.Changed += (_, e) => Look(e.Name);
        watcher.EnableRaisingEvents = true;
        await reached.Task.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);

        void Look(string? name)
        {
            if (name?.EndsWith(suffix, StringComparison.Ordinal) == true)
                reached.TrySetResult();
        }
    }

    /// <summary>How many workers gave an accepted contribution to each committed step, the first step first.</summary>
    private static IReadOnlyList<int> WorkersAtEachStep(RealCluster cluster, string id) => [.. WorkersOfSteps(cluster, id).Select(workers => workers.Count)];

    private static IEnumerable<IReadOnlySet<string>> WorkersOfSteps(RealCluster cluster, string id) =>
        new RunFolder(cluster.Folder).Ledger(id, 0).SelectMany(file => file.Lines).Select(LedgerRecord.Parse)
            .Where(record => record is { Step: > 0 }).OrderBy(record => (record!.Step, record.Epoch))
            .Select(record => record!.Contributions.Where(contribution => contribution.Outcome == ContributionOutcome.Accepted).Select(contribution => contribution.Worker).ToHashSet());

    private static async Task EndsAsCalmAsync(RealCluster cluster, string id)
    {
        await FaultTests.SameAsCalmAsync(await cluster.WaitAsync(id, snapshot => snapshot.Summary.EndedAt is not null));
        TrialAudit? audit = null;
        await RealCluster.RetryAsync(async () => audit = await (await cluster.ExperimentAsync(id)).AuditAsync(0, TestContext.Current.CancellationToken));
        Assert.True(audit is { Holds: true, Accepted: var accepted } && accepted == FaultTests.Contributions, string.Join('\n', audit!.Violations));
    }
}
