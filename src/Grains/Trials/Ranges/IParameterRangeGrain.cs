using AdjointDpm.Grains.DataPlane;
using Orleans.Concurrency;

namespace AdjointDpm.Grains.Trials.Ranges;

/// <summary>One range of a trial's parameters on one silo: its slice of the gradient, of the optimiser's state and of the parameters. Key: <c>{silo}/{trial and range}</c>.</summary>
/// <remarks>
/// Holds nothing that is not on the disk or computed again: when it is lost, another silo takes the range from the last commit. What moves its bytes
/// takes as long as the network and the disk need for them; meanwhile <see cref="CheckAsync"/> tells whether it is there.
/// </remarks>
[Alias("adjointdpm.IParameterRangeGrain")]
internal interface IParameterRangeGrain : IGrainWithStringKey
{
    /// <summary>How long a range of the greatest length may take: a gigabyte, and its optimiser's state, over a slow network or to a slow disk.</summary>
    private const string Long = "01:00:00";

    /// <summary>Takes the range over at a committed version, or at the untrained one from the worker that read it.</summary>
    [Alias("Load"), ResponseTimeout(Long)]
    Task<RangeVersion> LoadAsync(RangeLoad load);

    /// <summary>Fetches its piece of a shard's gradient and adds it. Idempotent by shard and contents.</summary>
    [Alias("Add"), AlwaysInterleave, ResponseTimeout(Long)]
    Task AddAsync(RangeShard shard);

    /// <summary>Goes on with the sum of squares of the mean gradient where the range before ended.</summary>
    [Alias("SumOfSquares"), ResponseTimeout(Long)]
    Task<double> SumOfSquaresAsync(RangeRound round, double before);

    /// <summary>Takes the optimiser step on its slice and writes the new version down.</summary>
    [Alias("Step"), ResponseTimeout(Long)]
    Task<RangeVersion> StepAsync(RangeRound round, double norm);

    /// <summary>Offers an older version of the slice to workers.</summary>
    [Alias("Offer"), ResponseTimeout(Long)]
    Task<TensorReference> OfferAsync(RangeClaim claim, string sha256);

    /// <summary>Answers when the range is held for this coordinator, or being loaded for it.</summary>
    [Alias("Check"), AlwaysInterleave]
    Task CheckAsync(RangeClaim claim);

    /// <summary>Lets the range go.</summary>
    [Alias("Release"), OneWay]
    Task ReleaseAsync(RangeClaim claim);
}

/// <summary>What a range starts from.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.RangeLoad")]
internal sealed record RangeLoad
{
    [Id(0)] public required string Experiment { get; init; }

    [Id(1)] public required int Trial { get; init; }

    [Id(2)] public required RangeClaim Claim { get; init; }

    /// <summary>Canonical JSON of the trial's spec.</summary>
    [Id(3)] public required string SpecJson { get; init; }

    /// <summary>Number of the range, from 0.</summary>
    [Id(4)] public required int Range { get; init; }

    /// <summary>The untrained parameters in pieces, when nothing is on the disk yet.</summary>
    [Id(5)] public TensorReference? Untrained { get; init; }

    /// <summary>The slice's file.</summary>
    [Id(6)] public string? ParametersSha256 { get; init; }

    /// <summary>The file of its optimiser state; null before the first step.</summary>
    [Id(7)] public string? OptimizerSha256 { get; init; }
}

/// <summary>Who may use a range: of a coordinator's placements the newest. A message of an earlier one that comes late changes nothing.</summary>
/// <param name="Epoch">Activation of the coordinator.</param>
/// <param name="Placement">Number of the placement within it.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.RangeClaim")]
internal readonly record struct RangeClaim([property: Id(0)] long Epoch, [property: Id(1)] int Placement)
{
    public bool IsAfter(RangeClaim other) => Epoch > other.Epoch || (Epoch == other.Epoch && Placement > other.Placement);
}

/// <summary>Names the gathering of one step under one claim.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.RangeRound")]
internal readonly record struct RangeRound([property: Id(0)] RangeClaim Claim, [property: Id(1)] int Step);

/// <summary>A shard's gradient for a range to add.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.RangeShard")]
internal sealed record RangeShard([property: Id(0)] RangeRound Round, [property: Id(1)] int Shard, [property: Id(2)] long Weight, [property: Id(3)] TensorReference Gradient);

/// <summary>A version of a range: on the disk by content, and in memory for workers.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.RangeVersion")]
internal sealed record RangeVersion([property: Id(0)] TensorReference Parameters, [property: Id(1)] string? OptimizerSha256);

/// <summary>A range is not where it was: its silo is gone or hangs, or another coordinator has it. The step is done again with the range elsewhere.</summary>
[GenerateSerializer, Alias("adjointdpm.RangeLostException")]
internal sealed class RangeLostException : Exception
{
    public RangeLostException(string message) : base(message)
    {
    }

    public RangeLostException(string message, Exception inner) : base(message, inner)
    {
    }
}
