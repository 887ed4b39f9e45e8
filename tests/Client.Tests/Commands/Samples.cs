using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Client.Tests.Commands;

/// <summary>Experiments with fixed numbers, for pictures.</summary>
internal static class Samples
{
    public static readonly DateTimeOffset Noon = new(2026, 7, 22, 12, 0, 0, TimeSpan.Zero);

    private const string SpecJson =
        """{"model":{"path":"/m","dtype":"float32"},"losses":[{"name":"cross-entropy","weight":1,"classifier":"/c"}],"heldOut":{"classifier":"/j"},"objective":{"metric":"heldOut.accuracy.after","goal":"maximize"}}""";

    public static ExperimentSummary Summary(string id, RunState state, int trials, int ended, int minutesAgo, int? lasted = null) => new()
    {
        Id = id, Name = id[..id.LastIndexOf('-')], State = state, Trials = trials, TrialsEnded = ended,
        SubmittedAt = Noon.AddMinutes(-minutesAgo), EndedAt = lasted is { } minutes ? Noon.AddMinutes(minutes - minutesAgo) : null,
    };

    public static TrialSnapshot Trial(int index, RunState state, double rate, int step = 20, string? reason = null) => new()
    {
        Index = index, State = state, Steps = 20, Step = step, Reason = reason,
        Parameters = new Dictionary<string, string> { ["optimizer.learningRate"] = rate.ToString(System.Globalization.CultureInfo.InvariantCulture), ["sample.solver"] = index % 2 == 0 ? "ddim" : "heun" },
        Metrics = state == RunState.Succeeded
            ? new Dictionary<string, double> { ["loss"] = 0.05, ["heldOut.accuracy.before"] = 0.4, ["heldOut.accuracy.after"] = 0.875 + (index * 0.01), ["heldOut.loss.before"] = 12.345, ["heldOut.loss.after"] = 0.00012, ["loss.before"] = 12.345, ["loss.after"] = 0.00012 }
            : new Dictionary<string, double>(),
        LossHistory = [.. Enumerable.Range(0, step).Select(i => Math.Exp(-i / 7.0) * (index + 1))],
        ParametersSha256 = step > 0 ? new string((char)('a' + index), 64) : null,
        StartedAt = state == RunState.Queued ? null : Noon.AddSeconds(-100),
        EndedAt = state is RunState.Succeeded or RunState.Failed ? Noon.AddSeconds(-100 + 33.3 + index) : null,
        ArtifactFolder = $"trial-{index}", Phase = state == RunState.Running ? "training" : null,
    };

    /// <summary>The same trial as an attack on a classifier, of 40 noises.</summary>
    public static TrialSnapshot Attacked(TrialSnapshot trial) => trial with { Metrics = new Dictionary<string, double>(trial.Metrics.Concat(Attack)), Totals = new TrialTotals { TrainingSeconds = 140 } };

    public static IReadOnlyDictionary<string, double> Attack { get; } = new Dictionary<string, double>
    {
        ["audit.noises.after"] = 40, ["audit.eligible.before"] = 0.8, ["audit.eligible.after"] = 0.8, ["audit.success.before"] = 0, ["audit.success.after"] = 0.7, ["audit.random.after"] = 0.025, ["audit.recognised.after"] = 0.35, ["audit.met.after"] = 0.8,
        ["audit.rate.after"] = 0.875, ["audit.rateLow.after"] = 0.7193, ["audit.rateHigh.after"] = 0.9503, ["audit.randomRate.after"] = 0.03125, ["audit.randomRateLow.after"] = 0.0055, ["audit.randomRateHigh.after"] = 0.1574,
        ["audit.recognisedRate.after"] = 0.5, ["audit.recognisedRateLow.after"] = 0.3265, ["audit.recognisedRateHigh.after"] = 0.6735, ["noise.linf.after"] = 0.2, ["noise.l2.after"] = 4.5,
    };

    /// <summary>A worker that holds work.</summary>
    public static WorkerDescription Worker(string name, bool cordoned, params WorkInHand[] work) =>
        Worker(new() { Name = name, Silo = name[..name.IndexOf('/')], Device = name[(name.IndexOf('/') + 1)..], State = WorkerState.Ready, Cordoned = cordoned, Work = work, ShardsDone = 17 });

    /// <summary>The same with the state that follows from the rest.</summary>
    public static WorkerDescription Worker(WorkerDescription worker) => worker with
    {
        State = worker.State is WorkerState.Silent or WorkerState.Absent ? worker.State
            : worker.Cordoned ? worker.Work.Count > 0 ? WorkerState.Draining : WorkerState.Cordoned
            : worker.Work.Count > 0 ? WorkerState.Busy : WorkerState.Ready,
    };

    public static WorkInHand Shard(int step, int shard, WorkProgress progress = WorkProgress.Running, string kind = "gradient") => new("stylize-0a1b2c3d/0", kind, step, shard, progress, Noon.AddSeconds(-3));

    public static TrialAudit Audit(string run, params string[] violations) => new()
    {
        Run = run, Steps = 20, StepsPlanned = 20, Shards = 4, Accepted = 80, Duplicates = 2, Stale = 1, Mismatches = 0, Weight = 320, Coordinators = 2, Redone = 1,
        Head = new string('a', 64), HeadSource = "report.json", ParametersSha256 = new string('b', 64), Violations = violations,
    };

    public static GradientProofReport Proof() => new()
    {
        Method = "discrete", Exact = true, Passed = true, Findings = [], Sampler = "ddim", Steps = 2, Samples = 1,
        Groups = [new("x_T", 1, 1, 0), new("mid_block", 1, 1, 1.3e-16)],
        States = [new("x[0]", 1, 1, 0, 157.4), new("x[1]", 1, 1, 0, 2.037), new("x[2]", 1, 1, 0, 0.01)],
        Differences = [new("x_T", 0.450738868, 0.450738868, 0.450738868, 7.3e-10), new("mid_block", 87.1884922, 87.1884961, 87.1884961, 0.12)],
        ForwardNfe = 2, BackwardNfe = 2, Vjps = 2, DifferenceNfe = 24,
    };

    public static StepReplay Replay(ReplayState state, params string[] differences) => new()
    {
        Run = "", Step = 0, State = state, From = 2, StepsDone = 3, ShardsCompared = 12, Workers = ["silo-0/cpu:0", "silo-1/cpu:0"],
        RecordedSha256 = new string('a', 64), RecomputedSha256 = new string(state == ReplayState.Equal ? 'a' : 'b', 64), Differences = differences,
        Reason = state == ReplayState.Failed ? "Step 99 was not committed. Name one from 1 to 20." : null,
    };

    public static ExperimentSnapshot Ended(string id = "stylize-0a1b2c3d", string? folder = null) => new()
    {
        Summary = Summary(id, RunState.Succeeded, 3, 3, 3, 2),
        SpecJson = SpecJson, SpecSha256 = new string('0', 64), BestTrial = 1, ArtifactFolder = folder ?? $"/data/experiments/{id}", Sequence = 9,
        Trials =
        [
            Trial(0, RunState.Succeeded, 1e-4), Trial(1, RunState.Succeeded, 3e-4),
            Trial(2, RunState.Failed, 0.01, 4, "The loss became NaN at step 5, first in unet.mid_block.resnets.0.conv1. Lower the learning rate."),
        ],
    };

    public static ExperimentSnapshot Running(string id = "stylize-0a1b2c3d") => Ended(id) with
    {
        Summary = Summary(id, RunState.Running, 3, 1, 3), BestTrial = null, Sequence = 4,
        Trials = [Trial(0, RunState.Succeeded, 1e-4), Trial(1, RunState.Running, 3e-4, 7), Trial(2, RunState.Queued, 0.01, 0)],
    };

    public static IEnumerable<ExperimentEvent> Events()
    {
        yield return Event(1, EventKind.Submitted, "3 trials planned.");
        yield return Event(2, EventKind.TrialStarted, "Started with optimizer.learningRate=0.0001, sample.solver=ddim.", 0);
        yield return Event(3, EventKind.StepCommitted, "Step 1 of 20: loss 0.98765, gradient norm 12.5.", 0, 1, new() { ["loss"] = 0.98765, ["gradientNorm"] = 12.5 });
        yield return Event(4, EventKind.ShardReissued, "Shard 2 was given to silo-1/cpu:0 (attempt 2).", 0, 2);
        yield return Event(5, EventKind.StepCommitted, "Step 2 of 20: loss 0.5, gradient norm 0.", 0, 2, new() { ["loss"] = 0.5 });
        yield return Event(6, EventKind.TrialEnded, "Succeeded.", 0);
        yield return Event(7, EventKind.ExperimentEnded, "3 of 3 trials ended.");
    }

    private static ExperimentEvent Event(long sequence, EventKind kind, string message, int? trial = null, int? step = null, Dictionary<string, double>? metrics = null) => new()
    {
        Sequence = sequence, Time = Noon.AddSeconds(sequence), Kind = kind, Message = message, Trial = trial, Step = step, Metrics = metrics,
    };
}
