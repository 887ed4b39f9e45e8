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
}
