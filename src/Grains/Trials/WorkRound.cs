using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Trials;

/// <summary>One round of work: what to lease, to whom, and what to do with what comes back.</summary>
internal sealed record WorkRound
{
    public required StepLedger Ledger { get; init; }

    public required DeviceKind Device { get; init; }

    /// <summary>Threads of libtorch that a worker's silo must have cores for.</summary>
    public int Threads { get; init; } = 1;

    /// <summary>Which last bits the workers must give; null for any, and then the round's result is of whichever it meets.</summary>
    public string? Arithmetic { get; init; }

    /// <summary>How long to wait for such workers while there are only others.</summary>
    public TimeSpan UnlikeAfter { get; init; } = ShardScheduling.UnlikeAfter;

    /// <summary>Trials that run side by side start with different workers.</summary>
    public required int Rotation { get; init; }

    /// <summary>How many workers may compute at once.</summary>
    public SlotsSpec Slots { get; init; } = new();

    public required TimeSpan Lease { get; init; }

    /// <summary>A shard that was lost this often is given up.</summary>
    public required int MaxAttempts { get; init; }

    /// <summary>How many times the round's median a worker may take before its shard is given to another one as well.</summary>
    public double StragglerFactor { get; init; } = ShardScheduling.StragglerFactor;

    /// <summary>How long a worker's device may stand still; null for what <see cref="ShardScheduling.Stuck"/> says.</summary>
    public TimeSpan? Stuck { get; init; }

    /// <summary>Whether less memory can be asked for, before a shard is given up that ends process after process.</summary>
    public bool MayAskForLess { get; init; }

    /// <summary>What workers have begun and not ended.</summary>
    public required AttemptMarks Marks { get; init; }

    public required Func<ShardToken, WorkAssignment> Assign { get; init; }

    /// <summary>Brings a result's blob to where it is wanted; it may answer without bytes. Default: here.</summary>
    public Func<WorkResult, CancellationToken, Task<byte[]?>>? Collect { get; init; }

    /// <summary>Which results may be brought there; null for all.</summary>
    public GradientWindow? Window { get; init; }

    /// <summary>Looks, after an attempt was lost, whether that was the worker's doing; throws what must end the round.</summary>
    public Func<Task>? Check { get; init; }

    /// <summary>Takes the first valid result of a shard, with its bytes.</summary>
    public required Action<int, WorkResult, byte[]?> Accept { get; init; }

    /// <summary>Told of every attempt after a shard's first.</summary>
    public required Action<ShardToken, string> Reissued { get; init; }

    /// <summary>What goes on beside the round: when that fails the round ends with its error, and when the round ends it may go on.</summary>
    public Task? Beside { get; init; }

    /// <summary>Lost attempts by shard: epoch and number of the attempt, its worker and why, and whether its process has ended. A worker that took a slow one over has lost nothing, nor has what only waited at one that is gone.</summary>
    internal Dictionary<int, SortedDictionary<(long Epoch, int Attempt), (string What, bool Ended)>> Losses { get; } = [];

    /// <summary>How long shards took that have contributed, from the lease to the result.</summary>
    internal List<TimeSpan> Took { get; } = [];
}
