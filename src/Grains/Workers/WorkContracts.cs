using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Workers;

/// <summary>A piece of work that a coordinator leases to a worker.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.WorkAssignment")]
internal sealed record WorkAssignment
{
    [Id(0)] public required ShardToken Token { get; init; }

    /// <summary>Canonical JSON of the trial's spec.</summary>
    [Id(1)] public required string SpecJson { get; init; }

    [Id(2)] public required string SpecSha256 { get; init; }

    /// <summary>Version of the trained parameters to work with; null for <see cref="WorkKind.Prepare"/>.</summary>
    [Id(3)] public TensorReference? Parameters { get; init; }

    /// <summary>Version of the parameters before training; only for <see cref="WorkKind.Save"/>.</summary>
    [Id(4)] public TensorReference? InitialParameters { get; init; }

    /// <summary>First sample and number of samples, for evaluations.</summary>
    [Id(5)] public int FirstSample { get; init; }

    [Id(6)] public int Samples { get; init; }

    /// <summary>Hash of the model's files as the first worker saw them; empty before that. A worker that sees others refuses.</summary>
    [Id(7)] public string ModelSha256 { get; init; } = "";

    /// <summary>Folder that the artefacts go to; only for <see cref="WorkKind.Save"/>.</summary>
    [Id(8)] public string? ArtifactFolder { get; init; }

    /// <summary>One line per committed step; only for <see cref="WorkKind.Save"/>.</summary>
    [Id(9)] public string? MetricsFile { get; init; }

    /// <summary>Length of the pieces that the result's blob is offered in; 0 for one.</summary>
    [Id(20)] public int PieceBytes { get; init; }

    /// <summary>What the step before left of the shard's gradient when it was encoded; null when nothing was.</summary>
    [Id(21)] public TensorReference? Residual { get; init; }

    /// <summary>Versions of the parameters that the steps since the last full gradient began with: what <see cref="Residual"/> is computed from when it is gone.</summary>
    [Id(22)] public IReadOnlyList<string>? Window { get; init; }

    /// <summary>Folder of those versions.</summary>
    [Id(23)] public string? VersionFolder { get; init; }

    /// <summary>resources.priority of the spec.</summary>
    [Id(24)] public int Priority { get; init; }

    /// <summary>resources.weight of the spec.</summary>
    [Id(25)] public double Weight { get; init; } = 1;

    /// <summary>First step, from 1, whose gradients are computed one sample at a time; null for none.</summary>
    [Id(26)] public int? LeanFrom { get; init; }

    /// <summary>Whether this step's gradients are computed one sample at a time.</summary>
    internal bool Lean => Token.Step + 1 >= LeanFrom;

    /// <summary>Experiments share devices.</summary>
    internal WorkShare Share => new(Token.Trial[..Token.Trial.LastIndexOf('/')], Priority, Weight);
}

/// <summary>What came of a piece of work.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.WorkResult")]
internal sealed record WorkResult
{
    /// <summary>Hash of everything in the result that must be equal when the work is done again.</summary>
    [Id(0)] public required string ContentSha256 { get; init; }

    /// <summary>Gradient, or initial parameters: fp32 in declaration order.</summary>
    [Id(1)] public TensorReference? Blob { get; init; }

    /// <summary>Number of samples behind it.</summary>
    [Id(2)] public long Weight { get; init; }

    /// <summary>Sums over the samples: loss, its parts, and for evaluations what the judge counted.</summary>
    [Id(3)] public required IReadOnlyDictionary<string, double> Sums { get; init; }

    [Id(4)] public required WorkStatistics Statistics { get; init; }

    /// <summary>Hash of the model's files; only for <see cref="WorkKind.Prepare"/>.</summary>
    [Id(5)] public string? ModelSha256 { get; init; }

    /// <summary>Trained numbers; only for <see cref="WorkKind.Prepare"/>.</summary>
    [Id(6)] public long Parameters { get; init; }

    /// <summary>The attempt that it is the result of, told by whoever computed it.</summary>
    [Id(20)] public required ShardToken Token { get; init; }

    /// <summary>What the encoding of the gradient left for the shard's next step; null when it was sent in full.</summary>
    [Id(21)] public TensorReference? Residual { get; init; }
}

/// <summary>What a piece of work cost, and where it was done.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.WorkStatistics")]
internal sealed record WorkStatistics
{
    [Id(0)] public string Worker { get; init; } = "";

    [Id(1)] public string Device { get; init; } = "";

    [Id(2)] public int Threads { get; init; }

    [Id(3)] public long Samples { get; init; }

    [Id(4)] public long ForwardNfe { get; init; }

    [Id(5)] public long BackwardNfe { get; init; }

    [Id(6)] public long Vjps { get; init; }

    [Id(7)] public long PeakLiveTensors { get; init; }

    [Id(8)] public double FetchSeconds { get; init; }

    [Id(9)] public double QueueSeconds { get; init; }

    [Id(10)] public double ForwardSeconds { get; init; }

    [Id(11)] public double LossSeconds { get; init; }

    [Id(12)] public double BackwardSeconds { get; init; }

    [Id(13)] public double TotalSeconds { get; init; }

    /// <summary>Norm of ∂L/∂x at each point of the sampler's grid, from x_T to x_0; null where the estimator does not go over them all.</summary>
    [Id(20)] public IReadOnlyList<double>? AdjointNorms { get; init; }

    /// <summary>Most bytes in use on the native heap above those before; null where the C library does not tell.</summary>
    [Id(21)] public long? PeakLiveBytes { get; init; }

    /// <summary>Bytes that a shard's gradient will hold above the weights, by the model's configuration alone; only for <see cref="WorkKind.Prepare"/>.</summary>
    [Id(22)] public long? PlannedBytes { get; init; }

    /// <summary>The machine, for people: its processor or GPU, and how many threads there are.</summary>
    [Id(23)] public string? Hardware { get; init; }

    /// <summary>Which last bits the device gives; only for <see cref="WorkKind.Prepare"/>.</summary>
    [Id(24)] public string? Arithmetic { get; init; }

    /// <summary>A trial's totals with this piece of work.</summary>
    /// <param name="totals">Those before.</param>
    /// <param name="isTraining">Whether it is a shard of a step.</param>
    public TrialTotals AddedTo(TrialTotals totals, bool isTraining) => totals with
    {
        Samples = totals.Samples + Samples,
        ForwardNfe = totals.ForwardNfe + ForwardNfe,
        BackwardNfe = totals.BackwardNfe + BackwardNfe,
        Vjps = totals.Vjps + Vjps,
        PeakLiveTensors = Math.Max(totals.PeakLiveTensors, PeakLiveTensors),
        PeakLiveBytes = isTraining ? Most(totals.PeakLiveBytes, PeakLiveBytes) : totals.PeakLiveBytes,
        PlannedBytes = PlannedBytes ?? totals.PlannedBytes,
        WorkerSeconds = totals.WorkerSeconds + ForwardSeconds + LossSeconds + BackwardSeconds,
        SampleSeconds = totals.SampleSeconds + ForwardSeconds,
        LossSeconds = totals.LossSeconds + LossSeconds,
        AdjointSeconds = totals.AdjointSeconds + BackwardSeconds,
        TrainingForwardNfe = totals.TrainingForwardNfe + (isTraining ? ForwardNfe : 0),
        TrainingBackwardNfe = totals.TrainingBackwardNfe + (isTraining ? BackwardNfe : 0),
        TrainingSeconds = totals.TrainingSeconds + (isTraining ? ForwardSeconds + LossSeconds + BackwardSeconds : 0),
        Hardware = Hardware is null || totals.Hardware.Contains(Hardware) ? totals.Hardware : [.. totals.Hardware, Hardware],
    };

    private static long? Most(long? a, long? b) => a is { } x && b is { } y ? Math.Max(x, y) : a ?? b;

    /// <summary>Of the engine's work that was done piece after piece.</summary>
    public WorkStatistics After(WorkStatistics before) => this with
    {
        Samples = Samples + before.Samples,
        ForwardNfe = ForwardNfe + before.ForwardNfe,
        BackwardNfe = BackwardNfe + before.BackwardNfe,
        Vjps = Vjps + before.Vjps,
        PeakLiveTensors = Math.Max(PeakLiveTensors, before.PeakLiveTensors),
        PeakLiveBytes = Most(PeakLiveBytes, before.PeakLiveBytes),
        ForwardSeconds = ForwardSeconds + before.ForwardSeconds,
        LossSeconds = LossSeconds + before.LossSeconds,
        BackwardSeconds = BackwardSeconds + before.BackwardSeconds,
    };
}

/// <summary>Why a piece of work failed.</summary>
/// <param name="Permanent">True when every other attempt would fail in the same way.</param>
/// <param name="Message">One sentence for people.</param>
/// <param name="OutOfMemory">True when the device or the host had no room for it.</param>
/// <param name="HandedBack">True when the worker has no time for it, which says nothing of the work.</param>
/// <param name="NonFinite">True when a number of the computation was not finite.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.WorkFailure")]
internal sealed record WorkFailure([property: Id(0)] bool Permanent, [property: Id(1)] string Message, [property: Id(2)] bool OutOfMemory = false, [property: Id(3)] bool HandedBack = false, [property: Id(4)] bool NonFinite = false);

internal enum WorkState
{
    /// <summary>This worker does not know the work: it was restarted since.</summary>
    Unknown,
    Waiting,
    Running,
    Done,
    Failed,
    Cancelled,

    /// <summary>The coordinator that asks has been replaced by a newer one.</summary>
    Fenced,
}

/// <summary>What a worker holds and has done.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.WorkerReport")]
internal sealed record WorkerReport
{
    [Id(0)] public required IReadOnlyList<WorkInHand> Work { get; init; }

    [Id(1)] public required long Done { get; init; }

    [Id(2)] public string? LastFailure { get; init; }

    [Id(3)] public DateTimeOffset? LastFailureAt { get; init; }
}

[GenerateSerializer, Immutable, Alias("adjointdpm.WorkStatus")]
internal sealed record WorkStatus([property: Id(0)] WorkState State, [property: Id(1)] WorkResult? Result = null, [property: Id(2)] WorkFailure? Failure = null)
{
    /// <summary>How long the device has stood still in what it computes, whosever that is; zero while it computes nothing, null from workers that do not tell.</summary>
    [Id(3)] public TimeSpan? Still { get; init; }
}

/// <summary>One device of one silo. Key: <c>{silo}/{device}</c>, such as <c>gpu-3/cuda:0</c>. All methods may be called again with the same token.</summary>
[Alias("adjointdpm.IShardWorkerGrain")]
internal interface IShardWorkerGrain : IGrainWithStringKey
{
    /// <summary>Takes the work and returns at once.</summary>
    [Alias("Start")]
    Task<WorkStatus> StartAsync(WorkAssignment assignment);

    /// <summary>Returns when the work ends, at the latest after <paramref name="upTo"/>.</summary>
    [Alias("Wait"), Orleans.Concurrency.AlwaysInterleave]
    Task<WorkStatus> WaitAsync(ShardToken token, TimeSpan upTo);

    /// <summary>Ends the work and drops its result.</summary>
    [Alias("Forget"), Orleans.Concurrency.AlwaysInterleave]
    Task ForgetAsync(ShardToken token);

    /// <summary>What it holds, for people.</summary>
    [Alias("Report"), Orleans.Concurrency.AlwaysInterleave]
    Task<WorkerReport> ReportAsync();
}
