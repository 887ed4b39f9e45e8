using AdjointDpm.Grains.Audit;

namespace AdjointDpm.Grains.Experiments;

/// <summary>One experiment: owns its trials and the search over them. Key: the experiment id.</summary>
[Alias("adjointdpm.IExperimentGrain")]
public interface IExperimentGrain : IGrainWithStringKey
{
    /// <summary>Accepts the experiment and starts it. Idempotent: the same spec again gives the same receipt with <see cref="SubmitReceipt.Existed"/>; another spec under the same id is refused.</summary>
    [Alias("Submit")]
    Task<SubmitReceipt> SubmitAsync(ExperimentSubmission submission, CancellationToken cancellationToken = default);

    /// <summary>State of the experiment and of its trials, at most <see cref="ExperimentSnapshot.MostTrials"/> of them; null when no such experiment was submitted.</summary>
    [Alias("GetSnapshot")]
    Task<ExperimentSnapshot?> GetSnapshotAsync(CancellationToken cancellationToken = default);

    /// <summary>A page of its trials by index; empty when no such experiment was submitted.</summary>
    /// <param name="skip">Index of the first.</param>
    /// <param name="take">At most this many, and at most <see cref="ExperimentSnapshot.MostTrials"/>.</param>
    /// <param name="cancellationToken">Gives up waiting.</param>
    [Alias("GetTrials")]
    Task<IReadOnlyList<TrialSnapshot>> GetTrialsAsync(int skip, int take, CancellationToken cancellationToken = default);

    /// <summary>Those of its trials that meet conditions, in an order that is asked for; null when no such experiment was submitted.</summary>
    /// <exception cref="ArgumentException">The query cannot be answered; the message says why.</exception>
    [Alias("FindTrials")]
    Task<TrialPage?> FindTrialsAsync(TrialQuery query, CancellationToken cancellationToken = default);

    /// <summary>Committed steps of a trial with what was observed of them, and what was measured before the first as step 0: at most <see cref="ExperimentSnapshot.MostTrials"/>, evenly chosen of more. Empty when there is no such trial.</summary>
    [Alias("GetSteps")]
    Task<IReadOnlyList<TrialStep>> GetStepsAsync(int trial, CancellationToken cancellationToken = default);

    /// <summary>A page of the events that happened, the newest first; empty when no such experiment was submitted.</summary>
    /// <param name="trial">Only events of this trial; null for all.</param>
    /// <param name="skip">Newer events to leave out.</param>
    /// <param name="take">At most this many, and at most <see cref="ExperimentSnapshot.MostTrials"/>.</param>
    /// <param name="cancellationToken">Gives up waiting.</param>
    [Alias("GetEvents")]
    Task<IReadOnlyList<ExperimentEvent>> GetEventsAsync(int? trial, int skip, int take, CancellationToken cancellationToken = default);

    /// <summary>Stops all trials after the step in hand. False when the experiment had ended already or does not exist.</summary>
    [Alias("Cancel")]
    Task<bool> CancelAsync(CancellationToken cancellationToken = default);

    /// <summary>Pauses, resumes, cancels or tries again the experiment or one of its trials, or edits its search.</summary>
    /// <exception cref="ArgumentException">That cannot be done; the message says why, and what can.</exception>
    [Alias("Control")]
    Task<ControlReceipt> ControlAsync(ExperimentControl control, CancellationToken cancellationToken = default);

    /// <summary>Proves from a trial's ledger that every contribution counted exactly once; null when the experiment has no such trial.</summary>
    [Alias("Audit")]
    Task<TrialAudit?> AuditAsync(int trial, CancellationToken cancellationToken = default);

    /// <summary>The proof that a trial's gradient began with; null when there is none yet, or it was not asked for.</summary>
    [Alias("GetGradientProof")]
    Task<GradientProofReport?> GetGradientProofAsync(int trial, CancellationToken cancellationToken = default);

    /// <summary>Files of a trial's results; empty while it is not complete, or when there is no such trial.</summary>
    [Alias("GetFiles")]
    Task<IReadOnlyList<ResultFile>> GetFilesAsync(int trial, CancellationToken cancellationToken = default);

    /// <summary>A part of a file of a trial's results; null when the trial lists no such file, or it is gone.</summary>
    /// <param name="trial">Index.</param>
    /// <param name="sha256">The file's SHA-256, as <see cref="GetFilesAsync"/> says it.</param>
    /// <param name="offset">Where the part begins.</param>
    /// <param name="cancellationToken">Gives up waiting.</param>
    /// <exception cref="ArgumentException">The file cannot be handed out in parts; the message says what can be done.</exception>
    [Alias("GetFile")]
    Task<ResultPart?> GetFileAsync(int trial, string sha256, long offset, CancellationToken cancellationToken = default);

    /// <summary>A part of the experiment's <c>report.json</c>; null before it is written.</summary>
    [Alias("GetReport")]
    Task<ResultPart?> GetReportAsync(long offset, CancellationToken cancellationToken = default);

    /// <summary>Events after a sequence number: first those that happened, then as they happen, until the experiment ends. To follow from the start pass 0.</summary>
    [Alias("Watch")]
    IAsyncEnumerable<ExperimentEvent> WatchAsync(long afterSequence, CancellationToken cancellationToken = default);
}

/// <summary>The list of all experiments of a cluster. Key: <see cref="Key"/>.</summary>
[Alias("adjointdpm.IExperimentDirectoryGrain")]
public interface IExperimentDirectoryGrain : IGrainWithStringKey
{
    /// <summary>The only key.</summary>
    const string Key = "all";

    /// <summary>Newest first.</summary>
    [Alias("List")]
    Task<IReadOnlyList<ExperimentSummary>> ListAsync(int skip, int take, CancellationToken cancellationToken = default);

    /// <summary>Adds or renews an entry; called by experiments themselves.</summary>
    [Alias("Put")]
    Task PutAsync(ExperimentSummary summary);
}

/// <summary>What a client sends to start an experiment.</summary>
/// <param name="SpecJson">Canonical JSON of the spec, paths made absolute.</param>
/// <param name="SpecSha256">SHA-256 of <paramref name="SpecJson"/> in lower-case hex.</param>
/// <param name="Name">metadata.name of the spec.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.ExperimentSubmission")]
public sealed record ExperimentSubmission([property: Id(0)] string SpecJson, [property: Id(1)] string SpecSha256, [property: Id(2)] string Name)
{
    /// <summary>Whether its paths are those of the silos and were not looked for by the client: the silo that takes it looks.</summary>
    [Id(3)] public bool PathsOfSilos { get; init; }

    /// <summary>Most labels, and most characters of a label's name or value.</summary>
    public const int MostLabels = 32, MostOfLabel = 100;

    // A client that knows nothing of them sends none.
    private static readonly Dictionary<string, string> NoLabels = [];

    /// <summary>metadata.labels of the spec, for people; no part of what is computed.</summary>
    [Id(4)] public IReadOnlyDictionary<string, string> Labels { get => field ?? NoLabels; init; }

    /// <summary>The command that it was started by, for people; null when it was not a command.</summary>
    [Id(5)] public string? Command { get; init; }
}

/// <summary>Answer to a submission.</summary>
/// <param name="ExperimentId">Its id.</param>
/// <param name="Existed">True when this very spec had been submitted before.</param>
/// <param name="Trials">Number of trials planned.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.SubmitReceipt")]
public sealed record SubmitReceipt([property: Id(0)] string ExperimentId, [property: Id(1)] bool Existed, [property: Id(2)] int Trials);

/// <summary>What is asked of an experiment that was submitted.</summary>
public enum ControlVerb
{
    /// <summary>Stop after the step in hand, and keep everything.</summary>
    Pause,

    /// <summary>Go on from there.</summary>
    Resume,

    /// <summary>End after the step in hand.</summary>
    Cancel,

    /// <summary>Go on with what failed or was cancelled, from its last committed step.</summary>
    Retry,

    /// <summary>Change the search.</summary>
    Edit,
}

/// <summary>A wish for an experiment.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.ExperimentControl")]
public sealed record ExperimentControl
{
    /// <summary>What to do.</summary>
    [Id(0)] public required ControlVerb Verb { get; init; }

    /// <summary>Trial that is meant; null: the whole experiment.</summary>
    [Id(1)] public int? Trial { get; init; }

    /// <summary>For an edit: paths in the spec, each with its new value as text, in order.</summary>
    [Id(2)] public IReadOnlyList<KeyValuePair<string, string>> Settings { get; init; } = [];
}

/// <summary>Answer to a wish.</summary>
/// <param name="Changed">False when it was so already.</param>
/// <param name="Message">What was done, in one sentence.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.ControlReceipt")]
public sealed record ControlReceipt([property: Id(0)] bool Changed, [property: Id(1)] string Message);

/// <summary>State of an experiment or a trial.</summary>
public enum RunState
{
    /// <summary>Accepted, not begun.</summary>
    Queued,

    /// <summary>Under way.</summary>
    Running,

    /// <summary>Ended as planned.</summary>
    Succeeded,

    /// <summary>Ended by an error; the reason says which.</summary>
    Failed,

    /// <summary>Ended because somebody asked for it.</summary>
    Cancelled,

    /// <summary>Of a trial: ended before its last step, because it promised little.</summary>
    Stopped,

    /// <summary>Of an experiment: waits until it is resumed.</summary>
    Paused,
}

/// <summary>An experiment in one line.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.ExperimentSummary")]
public sealed record ExperimentSummary
{
    /// <summary>Id.</summary>
    [Id(0)] public required string Id { get; init; }

    /// <summary>metadata.name.</summary>
    [Id(1)] public required string Name { get; init; }

    /// <summary>State.</summary>
    [Id(2)] public required RunState State { get; init; }

    /// <summary>Trials planned.</summary>
    [Id(3)] public required int Trials { get; init; }

    /// <summary>Trials that ended, in whatever way.</summary>
    [Id(4)] public required int TrialsEnded { get; init; }

    /// <summary>When it was submitted (UTC).</summary>
    [Id(5)] public required DateTimeOffset SubmittedAt { get; init; }

    /// <summary>When it ended (UTC).</summary>
    [Id(6)] public DateTimeOffset? EndedAt { get; init; }

    /// <summary>Project of the user who submitted it; null in a cluster without users.</summary>
    [Id(7)] public string? Project { get; init; }

    /// <summary>Most trials that run at once.</summary>
    [Id(8)] public int? Concurrent { get; init; }

    /// <summary>metadata.labels; null where there are none.</summary>
    [Id(9)] public IReadOnlyDictionary<string, string>? Labels { get; init; }
}

/// <summary>An experiment in full.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.ExperimentSnapshot")]
public sealed record ExperimentSnapshot
{
    /// <summary>The line for lists.</summary>
    [Id(0)] public required ExperimentSummary Summary { get; init; }

    /// <summary>Canonical JSON of the spec.</summary>
    [Id(1)] public required string SpecJson { get; init; }

    /// <summary>SHA-256 of the canonical JSON.</summary>
    [Id(2)] public required string SpecSha256 { get; init; }

    /// <summary>Trials in one snapshot or one page.</summary>
    public const int MostTrials = 1000;

    /// <summary>Trials by index: all, or of an experiment with more than <see cref="MostTrials"/> those that run, the best, and the first others. Ask <see cref="IExperimentGrain.GetTrialsAsync"/> for the rest.</summary>
    [Id(3)] public required IReadOnlyList<TrialSnapshot> Trials { get; init; }

    /// <summary>Index of the best trial by the objective, once one has succeeded.</summary>
    [Id(4)] public int? BestTrial { get; init; }

    /// <summary>Folder of the artefacts on the silos' storage.</summary>
    [Id(5)] public required string ArtifactFolder { get; init; }

    /// <summary>Why it failed or was cancelled.</summary>
    [Id(6)] public string? Reason { get; init; }

    /// <summary>Sequence number of the newest event.</summary>
    [Id(7)] public long Sequence { get; init; }

    /// <summary>With several objectives: the succeeded trials that no other one is better than in all of them.</summary>
    [Id(8)] public IReadOnlyList<int>? Front { get; init; }
}

/// <summary>A trial: one configuration of the search.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.TrialSnapshot")]
public sealed record TrialSnapshot
{
    /// <summary>Index within the experiment, from 0.</summary>
    [Id(0)] public required int Index { get; init; }

    /// <summary>State.</summary>
    [Id(1)] public required RunState State { get; init; }

    /// <summary>Values of the searched parameters, by path.</summary>
    [Id(2)] public required IReadOnlyDictionary<string, string> Parameters { get; init; }

    /// <summary>Steps committed.</summary>
    [Id(3)] public required int Step { get; init; }

    /// <summary>Steps planned.</summary>
    [Id(4)] public required int Steps { get; init; }

    /// <summary>Phase in words while running: evaluating, training, saving.</summary>
    [Id(5)] public string? Phase { get; init; }

    /// <summary>Newest value of each metric: loss, gradientNorm, loss.before, loss.after, heldOut.accuracy.before, …</summary>
    [Id(6)] public required IReadOnlyDictionary<string, double> Metrics { get; init; }

    /// <summary>SHA-256 over the trained parameters' bytes after the last committed step, lower-case hex.</summary>
    [Id(7)] public string? ParametersSha256 { get; init; }

    /// <summary>Why it failed or was cancelled.</summary>
    [Id(8)] public string? Reason { get; init; }

    /// <summary>Training loss of every committed step: at most the newest 2,000, and less when there are more than a hundred trials.</summary>
    [Id(9)] public required IReadOnlyList<double> LossHistory { get; init; }

    /// <summary>When it began (UTC).</summary>
    [Id(10)] public DateTimeOffset? StartedAt { get; init; }

    /// <summary>When it ended (UTC).</summary>
    [Id(11)] public DateTimeOffset? EndedAt { get; init; }

    /// <summary>Folder of its artefacts on the silos' storage, below the experiment's.</summary>
    [Id(12)] public string? ArtifactFolder { get; init; }

    /// <summary>Shards that had to be given to another worker or another attempt.</summary>
    [Id(13)] public int ShardsReissued { get; init; }

    /// <summary>SHA-256 of the newest committed record of the trial's ledger; null before the first.</summary>
    [Id(20)] public string? LedgerSha256 { get; init; }

    /// <summary>What its gradient was proven to be worth; null before, or when no proof was asked for.</summary>
    [Id(21)] public GradientProofSummary? Proof { get; init; }

    /// <summary>First step whose gradients were computed one sample at a time, because a worker had run out of memory or seemed to have; null when none did.</summary>
    [Id(22)] public int? LeanFrom { get; init; }

    /// <summary>Trial whose trained parameters it began with; null: the model's own.</summary>
    [Id(23)] public int? BegunWith { get; init; }

    /// <summary>Why gradients were computed one sample at a time, in one sentence; null when they were not.</summary>
    [Id(24)] public string? LeanReason { get; init; }

    /// <summary>What it has cost; null before it said.</summary>
    [Id(25)] public TrialTotals? Totals { get; init; }

    /// <summary>Which last bits its workers gave, and from which step on: one entry, unless no worker of that kind was left. Empty before it is known.</summary>
    [Id(26)] public IReadOnlyList<ArithmeticSince> Arithmetic { get; init; } = [];

    /// <summary>From where on gradients were computed one sample at a time, and why; null when they were not.</summary>
    internal string? LeanNotice => LeanFrom is { } lean ? $"{LeanReason ?? "A worker ran out of memory."} From step {lean} on gradients are computed one sample at a time." : null;

    /// <summary>What its bits depend on besides its spec, a sentence each.</summary>
    internal IEnumerable<string> Notices() =>
        (LeanNotice is { } lean ? new[] { lean } : []).Concat(Arithmetic.Skip(1).Select(since => since.Notice()));
}

/// <summary>Which last bits a trial's workers gave. Workers of one kind give equal bits.</summary>
/// <param name="Step">First step that they computed, from 1; of a trial's first ones, all that came before it as well.</param>
/// <param name="Kind">Name of the kind, as <c>adpm workers</c> shows it.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.ArithmeticSince")]
public sealed record ArithmeticSince([property: Id(0)] int Step, [property: Id(1)] string Kind)
{
    /// <summary>Why it is not the trial's first.</summary>
    internal string Notice() => $"No worker was left that computes as those before: from step {Step} on it is computed by such of another kind ({Kind}), which round differently.";
}

/// <summary>Kinds of events.</summary>
public enum EventKind
{
    /// <summary>The experiment was accepted.</summary>
    Submitted,

    /// <summary>A trial began.</summary>
    TrialStarted,

    /// <summary>A step of a trial was committed.</summary>
    StepCommitted,

    /// <summary>A shard's lease ended without a contribution and it was given out again.</summary>
    ShardReissued,

    /// <summary>A trial ended.</summary>
    TrialEnded,

    /// <summary>The experiment ended: the last event, unless trials are tried again or added.</summary>
    ExperimentEnded,

    /// <summary>A worker ran out of memory, or silos ended in the same shard as they do then: from this step on the trial asks for less of it.</summary>
    MemoryShort,

    /// <summary>No worker was left that computes as a trial's others did: it goes on with such as round differently.</summary>
    ArithmeticChanged,

    /// <summary>A trial with early stopping was looked at.</summary>
    Looked,

    /// <summary>The experiment, or a trial, was paused.</summary>
    Paused,

    /// <summary>The experiment, or a trial, goes on.</summary>
    Resumed,

    /// <summary>A trial that had failed or was cancelled is tried again.</summary>
    Retried,

    /// <summary>The search was edited.</summary>
    Edited,

    /// <summary>The target is reached or a budget is spent: no other trial begins.</summary>
    Limited,
}

/// <summary>Something that happened, numbered without gaps from 1.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.ExperimentEvent")]
public sealed record ExperimentEvent
{
    /// <summary>Number within the experiment.</summary>
    [Id(0)] public required long Sequence { get; init; }

    /// <summary>When (UTC).</summary>
    [Id(1)] public required DateTimeOffset Time { get; init; }

    /// <summary>What.</summary>
    [Id(2)] public required EventKind Kind { get; init; }

    /// <summary>Trial concerned.</summary>
    [Id(3)] public int? Trial { get; init; }

    /// <summary>Step concerned, from 1: the number of steps committed after it.</summary>
    [Id(4)] public int? Step { get; init; }

    /// <summary>One sentence for people.</summary>
    [Id(5)] public required string Message { get; init; }

    /// <summary>Metrics of the step.</summary>
    [Id(6)] public IReadOnlyDictionary<string, double>? Metrics { get; init; }
}
