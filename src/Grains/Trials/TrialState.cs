using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Grains.Trials;

/// <summary>What an experiment asks of a trial.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.TrialAssignment")]
internal sealed record TrialAssignment
{
    [Id(0)] public required string Experiment { get; init; }

    [Id(1)] public required int Index { get; init; }

    /// <summary>Canonical JSON of the trial's spec.</summary>
    [Id(2)] public required string SpecJson { get; init; }

    [Id(3)] public required string SpecSha256 { get; init; }

    /// <summary>Values of the searched parameters, by path.</summary>
    [Id(4)] public required IReadOnlyDictionary<string, string> Parameters { get; init; }

    /// <summary>Step after which the trial is looked at and rests; null: none before its last.</summary>
    [Id(5)] public int? Until { get; init; }

    /// <summary>How often it was tried again.</summary>
    [Id(6)] public int Attempt { get; init; }

    /// <summary>The trial whose trained parameters it begins with; null: the model's own.</summary>
    [Id(7)] public TrialOrigin? Origin { get; init; }

    /// <summary>Whether others may begin with what it ends with.</summary>
    [Id(8)] public bool KeepLast { get; init; }

    /// <summary>Span of the submission, as W3C writes it; null when nobody traced it. Stored, so that a coordinator that goes on is of the same trace.</summary>
    [Id(9)] public string? Trace { get; init; }

    /// <summary>When there was a place for it.</summary>
    [Id(10)] public DateTimeOffset? Since { get; init; }
}

/// <summary>Trained parameters of another trial of the experiment.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.TrialOrigin")]
internal sealed record TrialOrigin([property: Id(0)] int Trial, [property: Id(1)] string ParametersSha256);


internal enum TrialPhase
{
    Preparing,
    Proving,
    EvaluatingBefore,
    Training,
    EvaluatingAfter,
    Saving,
}

/// <summary>The committed state of a trial: small, whatever the size of the model and the number of steps.</summary>
internal sealed class TrialState
{
    public TrialAssignment? Assignment { get; set; }

    public RunState State { get; set; }

    public string? Reason { get; set; }

    public TrialPhase Phase { get; set; }

    /// <summary>Grows with every activation of the coordinator, and when it asks for another kind of work; writes and work of an earlier epoch are refused.</summary>
    public long Epoch { get; set; }

    /// <summary>Steps committed.</summary>
    public int Step { get; set; }

    public string ModelSha256 { get; set; } = "";

    public string? InitialSha256 { get; set; }

    public string? ParametersSha256 { get; set; }

    public string? OptimizerSha256 { get; set; }

    /// <summary>Hash of the newest committed record of the ledger: it and with it all before it are fixed from then on.</summary>
    public string? LedgerSha256 { get; set; }

    public GradientProofSummary? Proof { get; set; }

    public Dictionary<string, double> Metrics { get; set; } = [];

    public TrialTotals Totals { get; set; } = new();

    public int ShardsReissued { get; set; }

    /// <summary>First step whose gradients are computed one sample at a time, since a worker ran out of memory; null while none did.</summary>
    public int? LeanFrom { get; set; }

    /// <summary>Why; null while none did.</summary>
    public string? LeanReason { get; set; }

    /// <summary>Which last bits its workers give, and from which step on; the newest last. Empty while it is not known.</summary>
    public List<ArithmeticSince> Arithmetic { get; set; } = [];

    /// <summary>Version with the best held-out metric so far; null without heldOut.every.</summary>
    public string? BestSha256 { get; set; }

    /// <summary>Its held-out metric: the loss, unless heldOut.metric names another.</summary>
    public double BestLoss { get; set; }

    /// <summary>Step after which samples were last drawn for checkpoint.pictures; null before the first.</summary>
    public int? PicturedStep { get; set; }

    /// <summary>Step that was last looked at.</summary>
    public int GuardedStep { get; set; }

    /// <summary>Looks since the best one.</summary>
    public int LooksSinceBest { get; set; }

    public bool CancelRequested { get; set; }

    /// <summary>Step after which it rests until it is told to go on; null: none.</summary>
    public int? Until { get; set; }

    /// <summary>The objective at the steps at which it was looked at; NaN where it has none.</summary>
    public SortedDictionary<int, double> Looks { get; set; } = [];

    /// <summary>How often it was tried again.</summary>
    public int Attempt { get; set; }

    public DateTimeOffset? StartedAt { get; set; }

    public DateTimeOffset? EndedAt { get; set; }

    /// <summary>When work was last committed, not only claimed by another coordinator: null of trials from before this was kept.</summary>
    public DateTimeOffset? CommittedAt { get; set; }
}

/// <summary>A committed step, as it is kept in the trial's journal and told to the experiment.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.StepRecord")]
internal sealed record StepRecord
{
    /// <summary>Number of steps committed after it, from 1.</summary>
    [Id(0)] public required int Step { get; init; }

    [Id(1)] public required IReadOnlyDictionary<string, double> Metrics { get; init; }

    [Id(2)] public required string ParametersSha256 { get; init; }

    public static StepRecord Of(Audit.LedgerRecord record) => new() { Step = record.Step, Metrics = record.Metrics, ParametersSha256 = record.ParametersSha256 };
}

/// <summary>A shard that was given out again.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.ShardReissue")]
internal sealed record ShardReissue([property: Id(0)] int Step, [property: Id(1)] int Shard, [property: Id(2)] int Attempt, [property: Id(3)] string Worker);

/// <summary>News of a trial for its experiment.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.TrialReport")]
internal sealed record TrialReport
{
    /// <summary>Without the loss history; the experiment has that from the steps.</summary>
    [Id(0)] public required TrialSnapshot Snapshot { get; init; }

    /// <summary>Steps after the one that the experiment last acknowledged.</summary>
    [Id(1)] public required IReadOnlyList<StepRecord> Steps { get; init; }

    [Id(2)] public required IReadOnlyList<ShardReissue> Reissues { get; init; }

    /// <summary>With <see cref="Number"/> names the report, so that one that is sent twice counts once.</summary>
    [Id(3)] public required long Epoch { get; init; }

    [Id(4)] public required long Number { get; init; }

    [Id(5)] public required TrialTotals Totals { get; init; }

    [Id(6)] public required string ModelSha256 { get; init; }

    /// <summary>The objective at the steps at which it was looked at, by step; NaN where it has none.</summary>
    [Id(7)] public IReadOnlyList<KeyValuePair<int, double>> Looks { get; init; } = [];

    /// <summary>How often the trial was tried again.</summary>
    [Id(8)] public int Attempt { get; init; }
}

/// <summary>One trial's coordinator. Key: <c>{experiment}/{index}</c>.</summary>
[Alias("adjointdpm.ITrialGrain")]
internal interface ITrialGrain : IGrainWithStringKey
{
    /// <summary>Starts the trial, or wakes it where it stands. Idempotent.</summary>
    [Alias("Start")]
    Task StartAsync(TrialAssignment assignment);

    /// <summary>Stops it after the step in hand.</summary>
    [Alias("Cancel"), Orleans.Concurrency.AlwaysInterleave]
    Task CancelAsync();

    /// <summary>Lets it rest after the step in hand, until it is started again.</summary>
    [Alias("Pause"), Orleans.Concurrency.AlwaysInterleave]
    Task PauseAsync();

    /// <summary>Ends it after the step in hand, because it promises little.</summary>
    [Alias("Stop"), Orleans.Concurrency.AlwaysInterleave]
    Task StopAsync(string reason);

    static string KeyOf(string experiment, int index) => FormattableString.Invariant($"{experiment}/{index}");
}

/// <summary>Where trials report to: the experiment's other side.</summary>
[Alias("adjointdpm.ITrialReportsGrain")]
internal interface ITrialReportsGrain : IGrainWithStringKey
{
    /// <summary>Takes news; the answer is the newest step that the experiment knows.</summary>
    [Alias("Report")]
    Task<int> ReportAsync(TrialReport report);

    /// <summary>Wakes an unfinished experiment; false when it has ended or was never submitted.</summary>
    [Alias("Poke")]
    Task<bool> PokeAsync();
}
