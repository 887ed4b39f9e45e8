namespace AdjointDpm.Grains.Audit;

/// <summary>How far the replay of a step is.</summary>
public enum ReplayState
{
    /// <summary>Under way; ask again.</summary>
    Running,

    /// <summary>Recomputed, and every bit is the recorded one.</summary>
    Equal,

    /// <summary>Recomputed, and something differs: <see cref="StepReplay.Differences"/>.</summary>
    Different,

    /// <summary>It could not be recomputed: <see cref="StepReplay.Reason"/>.</summary>
    Failed,
}

/// <summary>A committed step of a trial, computed once more and compared with what the ledger says of it.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.StepReplay")]
public sealed record StepReplay
{
    /// <summary>Trial, as <c>experiment/index</c>.</summary>
    [Id(0)] public required string Run { get; init; }

    /// <summary>Number of the step, from 1.</summary>
    [Id(1)] public required int Step { get; init; }

    /// <summary>State.</summary>
    [Id(2)] public required ReplayState State { get; init; }

    /// <summary>Why it failed.</summary>
    [Id(3)] public string? Reason { get; init; }

    /// <summary>Committed steps before the first that is recomputed: the newest version before <see cref="Step"/> that is still kept, else 0, the untrained model.</summary>
    [Id(4)] public int From { get; init; }

    /// <summary>Steps recomputed and compared so far.</summary>
    [Id(5)] public int StepsDone { get; init; }

    /// <summary>Shards whose contents were compared so far.</summary>
    [Id(6)] public int ShardsCompared { get; init; }

    /// <summary>Workers that recomputed, in order of their names.</summary>
    [Id(7)] public IReadOnlyList<string> Workers { get; init; } = [];

    /// <summary>SHA-256 of the parameters after the step, as recorded.</summary>
    [Id(8)] public string? RecordedSha256 { get; init; }

    /// <summary>SHA-256 of the parameters after the step, as recomputed.</summary>
    [Id(9)] public string? RecomputedSha256 { get; init; }

    /// <summary>What differs, in the order in which it was met. The replay ends with the first step that has any.</summary>
    [Id(10)] public IReadOnlyList<string> Differences { get; init; } = [];
}

/// <summary>Recomputes a committed step on the cluster's workers. Key: <see cref="KeyOf"/>.</summary>
[Alias("adjointdpm.IStepReplayGrain")]
public interface IStepReplayGrain : IGrainWithStringKey
{
    /// <summary>Starts the replay, or says how far it is. It stops when nobody asks for a minute; one that has ended is told once and starts anew when asked again.</summary>
    [Alias("Replay")]
    Task<StepReplay> ReplayAsync(CancellationToken cancellationToken = default);

    /// <summary>Key of a step.</summary>
    /// <param name="experiment">Id of the experiment.</param>
    /// <param name="trial">Index of the trial, from 0.</param>
    /// <param name="step">Number of the step, from 1.</param>
    static string KeyOf(string experiment, int trial, int step) => FormattableString.Invariant($"{experiment}/{trial}@{step}");
}
