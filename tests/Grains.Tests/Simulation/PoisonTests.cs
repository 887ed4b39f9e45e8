using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tests.Cluster;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>A shard that kills every silo which begins it, the coordinator's among them.</summary>
public sealed class PoisonTests
{
    private const int Most = 3;

    /// <summary>Whatever a coordinator does again after a takeover before it comes to the poisoned piece, and commits.</summary>
    private static readonly (WorkKind Kind, int Step, int Shard)[] Works =
    [
        (WorkKind.Prepare, 0, 0), (WorkKind.Prove, 0, 0), (WorkKind.EvaluateBefore, 0, 1), (WorkKind.Gradient, 0, 1), (WorkKind.Gradient, 0, 2), (WorkKind.Gradient, 1, 0),
        (WorkKind.Gradient, 2, 1), (WorkKind.EvaluateAfter, 3, 1), (WorkKind.Save, 3, 0),
    ];

    [Theory]
    [InlineData(3), InlineData(2), InlineData(1)]
    public void ShardThatKillsEverySilo_StopsItsTrial_AndTheOthersAreUndisturbed(int silos)
    {
        // Two losses are already too many: a trial whose shards only waited at what died must not be charged with one.
        var spec = Simulated.Search with { Failure = new FailureSpec { LeaseSeconds = 1.0, MaxShardAttempts = Most } };
        var calm = Trials(Run(0, spec, 3, _ => false).Snapshot);
        var (all, coordinators) = (0, 0);
        for (var seed = 1; seed <= 90; seed++)
        {
            var (kind, step, shard) = Works[seed % Works.Length];
            var (snapshot, world) = Run(seed, spec, silos, token => token.Trial == "poison/1" && (token.Kind, token.Step, token.Shard) == (kind, step, shard));
            var trials = Trials(snapshot);
            Assert.True(snapshot.Summary.State == RunState.Succeeded, $"seed {seed}: {snapshot.Reason}");
            Assert.True((calm[0], calm[2]) == (trials[0], trials[2]), $"seed {seed}: {snapshot.Trials[0].Reason} {snapshot.Trials[2].Reason}");
            var poisoned = snapshot.Trials[1];
            Assert.True(poisoned.State == RunState.Failed, $"seed {seed}: {poisoned.State}");
            Assert.Matches($"was lost {Most} times, .+ Attempt [0-9]+.*: silo-[0-9]/cpu:0: ", poisoned.Reason);
            // Gradients once more as often with less memory. One more only when the last one's end is not known yet.
            var tries = kind == WorkKind.Gradient ? 2 * Most : Most;
            Assert.InRange(world.Tally["silos poisoned"], tries, tries + 1);
            // The end of the trial is a commit: nothing is kept of what was lost.
            Assert.DoesNotContain(world.Disk.List(world.Folders.Begun), path => AttemptMark.Parse(Path.GetFileName(path), world.Disk.Read(path)) is { Token.Trial: "poison/1" });
            all++;
            coordinators += poisoned.Reason!.Contains("of coordinator", StringComparison.Ordinal) ? 1 : 0;
        }
        TestContext.Current.TestOutputHelper?.WriteLine($"{silos} silos: {all} poisoned shards were stopped, {coordinators} of them after they had killed a coordinator.");
        Assert.InRange(coordinators, silos == 1 ? 90 : 1, 90);
    }

    private static List<string> Trials(ExperimentSnapshot snapshot) =>
        [.. snapshot.Trials.Select(trial => $"{trial.State} {trial.ParametersSha256} {string.Join(' ', trial.LossHistory)} {string.Join(' ', trial.Metrics.OrderBy(metric => metric.Key, StringComparer.Ordinal))}")];

    private static (ExperimentSnapshot Snapshot, World World) Run(int seed, ExperimentSpec spec, int silos, Func<ShardToken, bool> poison)
    {
        var folder = Directory.CreateTempSubdirectory("adjointdpm-poison-").FullName;
        try
        {
            using var world = new World(seed, FaultPlan.None, silos, folder) { Poison = poison };
            return (world.Run("poison", TestSpecs.Submission(spec)), world);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
