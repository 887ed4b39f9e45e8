using System.Globalization;
using System.Text;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Experiments.Searching;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tests.Cluster;

namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>A run that has ended: what it did, what went wrong in it, and what of its promises does not hold.</summary>
internal sealed record Simulated(int Seed, string Fingerprint, Tally Tally, IReadOnlyList<string> Violations)
{
    /// <summary>Step from which on each trial's gradients were computed one sample at a time.</summary>
    public IReadOnlyList<int?> LeanFrom { get; init; } = [];

    /// <summary>Which last bits the workers of each trial gave, and from which step on.</summary>
    public IReadOnlyList<string> Arithmetic { get; init; } = [];

    private const string Id = "simulated";

    public static ExperimentSpec Single { get; } = TestSpecs.Small with
    {
        Training = new TrainingSpec { Steps = 3, Shards = 3, SamplesPerShard = 2 },
        HeldOut = new HeldOutSpec { Samples = 4 },
        Failure = new FailureSpec { LeaseSeconds = 1.0, MaxShardAttempts = 100 },
    };

    /// <summary>Three trials, two at a time.</summary>
    public static ExperimentSpec Search { get; } = Single with
    {
        Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Values = ["0.05", "0.02", "0.1"] } },
        MaxConcurrentTrials = 2,
    };

    /// <summary>Nine trials that learn from each other, of which two in three end early.</summary>
    public static ExperimentSpec Halving { get; } = Single with
    {
        Training = new TrainingSpec { Steps = 4, Shards = 2, SamplesPerShard = 2 },
        Algorithm = new AlgorithmSpec { Name = AlgorithmName.Tpe, Seed = 3 },
        EarlyStopping = new EarlyStoppingSpec { Name = EarlyStoppingName.Asha, ReductionFactor = 2 },
        Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
        Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Min = 0.001, Max = 0.5, Distribution = Distribution.LogUniform } },
        MaxTrials = 14,
        MaxConcurrentTrials = 3,
    };

    /// <summary>Runs an experiment through a plan of faults.</summary>
    /// <param name="seed">Decides everything.</param>
    /// <param name="spec">Experiment.</param>
    /// <param name="plan">What goes wrong.</param>
    /// <param name="undisturbed">Fingerprint that the run must have; null for the undisturbed run itself.</param>
    /// <param name="build">Makes the cluster; for those that are broken on purpose.</param>
    public static Simulated Run(int seed, ExperimentSpec spec, FaultPlan plan, string? undisturbed, Func<int, FaultPlan, string, World>? build = null)
    {
        var memory = "/dev/shm";
        var folder = Directory.CreateDirectory(Path.Combine(Directory.Exists(memory) ? memory : Path.GetTempPath(), $"adjointdpm-simulated-{Environment.ProcessId:d10}-{Guid.NewGuid():N}")).FullName;
        try
        {
            using var world = (build ?? ((s, p, f) => new World(s, p, 3, f)))(seed, plan, folder);
            try
            {
                var snapshot = world.Run(Id, TestSpecs.Submission(spec));
                var violations = new List<string>();
                var fingerprint = Judge(world, snapshot, spec, violations);
                if (undisturbed is not null && fingerprint != undisturbed)
                    violations.Add("the results are not those of the undisturbed run:\n" + Difference(undisturbed, fingerprint));
                return new Simulated(seed, fingerprint, world.Tally, violations) 
                {
                    LeanFrom = [.. snapshot.Trials.Select(trial => trial.LeanFrom)],
                    Arithmetic = [.. snapshot.Trials.Select(trial => string.Join(' ', trial.Arithmetic.Select(since => since.Kind + since.Step.ToString(CultureInfo.InvariantCulture))))],
                };
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                return new Simulated(seed, "", world.Tally, [$"{e.GetType().Name}: {e}\n{string.Join('\n', world.Disk.List(Path.Combine(folder, "journal", Id)).SelectMany(path => RunFolder.LinesOf(world.Disk.Read(path)).TakeLast(4).Prepend(Path.GetFileName(path))))}\n{string.Join('\n', world.Trace)}"]);
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Everything that must not depend on what went wrong, as text: trial table, metrics, parameters, optimiser, costs.</summary>
    private static string Judge(World world, ExperimentSnapshot snapshot, ExperimentSpec spec, List<string> violations)
    {
        var text = new StringBuilder();
        var search = new Search(spec);
        if (snapshot.Trials.Count != search.Trials)
            violations.Add($"{snapshot.Trials.Count} trials instead of {search.Trials}");
        violations.AddRange(world.Disk.Lost.Select(lost => $"a commit that was seen is gone after a power cut: {lost}"));
        text.Append(CultureInfo.InvariantCulture, $"{snapshot.Summary.State} {snapshot.Summary.TrialsEnded} best {snapshot.BestTrial}\n");
        foreach (var trial in snapshot.Trials)
        {
            text.Append(CultureInfo.InvariantCulture, $"trial {trial.Index} {trial.State} {trial.Reason} step {trial.Step} {string.Join(' ', trial.Parameters.Select(value => $"{value.Key}={value.Value}"))} parameters {trial.ParametersSha256} losses {string.Join(' ', trial.LossHistory.Select(Bits))}\n");
            foreach (var (name, value) in trial.Metrics.OrderBy(pair => pair.Key, StringComparer.Ordinal))
                text.Append(CultureInfo.InvariantCulture, $"  {name} {Bits(value)}\n");
            Trial(world, trial, spec, text, violations);
        }
        violations.AddRange(world.Disk.RemovedTooSoon.Select(path => $"{Path.GetFileName(path)} was removed while the committed state named it"));
        Commits(world, spec, violations);
        Journal(world, snapshot, violations);
        return text.ToString();
    }

    private static void Trial(World world, TrialSnapshot trial, ExperimentSpec spec, StringBuilder text, List<string> violations)
    {
        var run = $"{Id}/{trial.Index}";
        var state = Encoding.UTF8.GetString(world.Disk.Read(RunFolder.StatePath(world.Folders.State, "trial", GrainId.Parse("trial/" + run, null).ToString())) ?? "0\n{}"u8.ToArray());
        using var json = System.Text.Json.JsonDocument.Parse(state[(state.IndexOf('\n', StringComparison.Ordinal) + 1)..]);
        var root = json.RootElement;
        if (!root.TryGetProperty("step", out var step))
        {
            violations.Add($"trial {trial.Index} was lost: it has no state");
            return;
        }
        if (root.GetProperty("state").GetString() is not ("succeeded" or "failed" or "cancelled" or "stopped") and var running)
            violations.Add($"trial {trial.Index} is a zombie: its state is {running} after the experiment's end");
        var folder = world.Folders.TrialWork(Id, trial.Index);
        var files = world.Disk.List(Path.Combine(folder, RunFolder.LedgerFolder)).Select(path => new LedgerFile(Path.GetFileName(path), RunFolder.LinesOf(world.Disk.Read(path)))).ToList();
        var audit = LedgerAudit.Of(run, files, new CommittedHead(step.GetInt32(), root.TryGetProperty("ledgerSha256", out var sha) ? sha.GetString() : null, trial.State == RunState.Succeeded && !trial.Metrics.ContainsKey("heldOut.stoppedAtStep"), "state"));
        violations.AddRange(audit.Violations.Select(violation => $"audit of trial {trial.Index}: {violation}"));
        if (audit.Steps > spec.Training.Steps)
            violations.Add($"trial {trial.Index} took {audit.Steps} steps");
        world.Tally.Add("steps committed", audit.Steps);
        world.Tally.Add("duplicate contributions", audit.Duplicates);
        world.Tally.Add("stale contributions", audit.Stale);
        world.Tally.Add("steps done again", audit.Redone);
        foreach (var record in LedgerChain.Of(files).Records.Take(audit.Steps + 1))
            text.Append(CultureInfo.InvariantCulture, $"  step {record.Step} weight {record.Weight} parameters {record.ParametersSha256} optimizer {record.OptimizerSha256} contents {string.Join(' ', record.Contributions.Where(c => c.Outcome == ContributionOutcome.Accepted).OrderBy(c => c.Shard).Select(c => c.ContentSha256))}\n");
        var totals = root.GetProperty("totals");
        text.Append(CultureInfo.InvariantCulture, $"  samples {totals.GetProperty("samples")} nfe {totals.GetProperty("forwardNfe")} {totals.GetProperty("backwardNfe")} vjps {totals.GetProperty("vjps")}\n");
        foreach (var path in Directory.Exists(trial.ArtifactFolder) ? Directory.GetFiles(trial.ArtifactFolder).Order(StringComparer.Ordinal).ToArray() : [])
            text.Append(CultureInfo.InvariantCulture, $"  {Path.GetFileName(path)} {TensorReference.HashOf(File.ReadAllBytes(path))}\n");
    }

    /// <summary>No step is committed twice, whoever commits, and no former coordinator commits after a later one.</summary>
    private static void Commits(World world, ExperimentSpec spec, List<string> violations)
    {
        foreach (var trial in world.Disk.Commits.GroupBy(commit => commit.Path))
        {
            var (step, epoch) = (0, 0L);
            foreach (var commit in trial)
            {
                if (commit.Step < step || commit.Step > step + 1)
                    violations.Add($"a trial's state went from step {step} to step {commit.Step}");
                if (commit.Epoch < epoch)
                    violations.Add($"coordinator {commit.Epoch} committed after coordinator {epoch}");
                (step, epoch) = (commit.Step, commit.Epoch);
            }
            if (step > spec.Training.Steps)
                violations.Add($"a trial committed {step} steps");
        }
    }

    /// <summary>What the journal tells: every event once, every trial begun once and ended once.</summary>
    private static void Journal(World world, ExperimentSnapshot snapshot, List<string> violations)
    {
        var silo = new Silo(world, "reader");
        var reading = silo.Turns.Start(() => new ExperimentJournal(silo.Disk, Path.Combine(world.Folders.Data, "journal", Id), long.MaxValue / 2).ReadAsync());
        while (!reading.IsCompleted)
            if (silo.Turns.HasNext)
                silo.Turns.RunNext();
            else if (!world.Time.FireNext())
                break;
        var events = reading.GetAwaiter().GetResult().Select(line => line.Event).ToList();
        foreach (var trial in snapshot.Trials)
        {
            foreach (var kind in new[] { EventKind.TrialStarted, EventKind.TrialEnded })
                if (events.Count(e => e.Trial == trial.Index && e.Kind == kind) is not 1 and var times)
                    violations.Add($"the journal has {times} events {kind} of trial {trial.Index}");
            var steps = events.Where(e => e.Trial == trial.Index && e.Kind == EventKind.StepCommitted).Select(e => e.Step!.Value).ToList();
            if (!steps.SequenceEqual(Enumerable.Range(1, trial.Step)))
                violations.Add($"the journal tells the steps {string.Join(' ', steps)} of trial {trial.Index}");
        }
        if (events.Count(e => e.Kind == EventKind.Submitted) != 1 || events.Count(e => e.Kind == EventKind.ExperimentEnded) != 1 || events[^1].Kind != EventKind.ExperimentEnded)
            violations.Add("the journal does not begin once and end once: " + string.Join("; ", events.Where(e => e.Kind is not EventKind.StepCommitted and not EventKind.ShardReissued).Select(e => $"{e.Sequence} {e.Time:ss.ffff} {e.Kind} {e.Trial}")));
    }

    private static string Bits(double value) => BitConverter.DoubleToInt64Bits(value).ToString("x16", CultureInfo.InvariantCulture);

    private static string Difference(string expected, string actual)
    {
        var (left, right) = (expected.Split('\n'), actual.Split('\n'));
        return string.Join('\n', left.Except(right).Take(3).Select(line => "- " + line).Concat(right.Except(left).Take(3).Select(line => "+ " + line)));
    }
}
