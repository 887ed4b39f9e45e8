using System.ComponentModel.DataAnnotations;

namespace AdjointDpm.Grains.Specs;

/// <summary>What a shard needs.</summary>
public sealed record ResourceSpec
{
    /// <summary>Kind of device: cpu or cuda. Part of the run's identity. Default: cpu.</summary>
    public DeviceKind Device { get; init; } = DeviceKind.Cpu;

    /// <summary>Intra-op threads of libtorch in a worker. Part of the run's identity: results differ between counts. Default: 1.</summary>
    [Range(1, 256)]
    public int Threads { get; init; } = 1;

    /// <summary>Shards of experiments with a higher one go first on every worker; what runs is not interrupted. Not part of what decides the bits. Default: 0.</summary>
    [Range(-1000, 1000)]
    public int? Priority { get; init; }

    /// <summary>Device time beside other experiments of equal priority, in proportion to their weights. Default: 1.</summary>
    [Range(0.001, 1000.0)]
    public double? Weight { get; init; }

    /// <summary>What a worker's weights and gradient may take together, such as <c>8GB</c>, for <c>gradient.method: auto</c> and for workers that share a device. Default: not said.</summary>
    public string? Memory { get; init; }

    /// <summary>How many workers a trial uses at once. Default: all there are.</summary>
    public SlotsSpec? SlotsPerTrial { get; init; }
}

/// <summary>Workers of one trial. It grows and shrinks between the two as workers come and go; its bits do not depend on it.</summary>
public sealed record SlotsSpec
{
    /// <summary>With fewer workers than this in the cluster the trial waits. Default: 1.</summary>
    [Range(1, 10_000)]
    public int? Min { get; init; }

    /// <summary>At most this many compute for it at the same time. Default: all there are.</summary>
    [Range(1, 10_000)]
    public int? Max { get; init; }
}

/// <summary>Kinds of devices.</summary>
public enum DeviceKind
{
    /// <summary>The host's processor.</summary>
    Cpu,

    /// <summary>An NVIDIA GPU.</summary>
    Cuda,
}

/// <summary>Failure policy.</summary>
public sealed record FailureSpec
{
    /// <summary>A shard is given up after this many attempts, and its trial fails. Default: 5.</summary>
    [Range(1, 100)]
    public int MaxShardAttempts { get; init; } = 5;

    /// <summary>A lease that was not renewed for this many seconds is given to another worker. Default: 5.</summary>
    [Range(0.5, 3600.0)]
    public double LeaseSeconds { get; init; } = 5.0;

    /// <summary>A shard that takes a worker this many times the median of the step's others, and at least two leases, is given to another worker as well; the first result counts. Default: 4.</summary>
    [Range(1.5, 1000.0)]
    public double? StragglerFactor { get; init; }

    /// <summary>Work is taken from a worker that answers while its device has made no progress for this many seconds: no step of a sampler, no end of a piece of work. Default: ten times the median of the step's shards and at least a minute, once half of them are in; before that, and for work that is one piece, half an hour.</summary>
    [Range(1.0, 86400.0)]
    public double? StuckSeconds { get; init; }

    /// <summary>A trial stays with workers that give the same last bits. When only others are left it waits this many seconds for such, and then goes on with the others: its bits are no longer those of an undisturbed run, and its report says from which step on. Default: 60.</summary>
    [Range(0.0, 31536000.0)]
    public double? UnlikeAfterSeconds { get; init; }
}

/// <summary>What is kept along the way.</summary>
public sealed record CheckpointSpec
{
    /// <summary>Rows of the before/after sheet per class; the columns are the classes. Default: 4.</summary>
    [Range(1, 64)]
    public int SheetRows { get; init; } = 4;

    /// <summary>Newest committed steps whose inputs are kept, parameters and optimiser state, also after the trial's end, so that <c>adpm replay</c> can recompute them. Default: none; the first step needs none.</summary>
    [Range(1, 1_000_000)]
    public int? KeepSteps { get; init; }

    /// <summary>Draw a row of samples, always of the same noise, before the first step, after every so many and after the last: the live page and the report show them. Each row costs the evaluations of its samples; no bit of the run depends on it. Default: none.</summary>
    [Range(1, 10_000_000)]
    public int? Pictures { get; init; }
}
