namespace AdjointDpm.Grains.Workers;

/// <summary>What a worker does, and whether it gets more.</summary>
public enum WorkerState
{
    /// <summary>It has nothing to do.</summary>
    Ready,

    /// <summary>It holds work.</summary>
    Busy,

    /// <summary>It gets no work and holds none.</summary>
    Cordoned,

    /// <summary>It gets no work and holds some still.</summary>
    Draining,

    /// <summary>Its silo is a member of the cluster and does not answer.</summary>
    Silent,

    /// <summary>It is cordoned, and its silo is no member of the cluster.</summary>
    Absent,
}

/// <summary>How far a piece of work is.</summary>
public enum WorkProgress
{
    /// <summary>It waits for its parameters or for the device.</summary>
    Waiting,

    /// <summary>The device computes it.</summary>
    Running,

    /// <summary>It is done, and the coordinator has not yet collected it.</summary>
    Delivering,
}

/// <summary>A worker as people look at it.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.WorkerDescription")]
public sealed record WorkerDescription
{
    /// <summary>Name, <c>{silo}/{device}</c>.</summary>
    [Id(0)] public required string Name { get; init; }

    /// <summary>Silo name.</summary>
    [Id(1)] public required string Silo { get; init; }

    /// <summary>Device, such as <c>cpu:0</c>.</summary>
    [Id(2)] public required string Device { get; init; }

    /// <summary>What it does.</summary>
    [Id(3)] public required WorkerState State { get; init; }

    /// <summary>Whether it gets no new work.</summary>
    [Id(4)] public required bool Cordoned { get; init; }

    /// <summary>What it holds a lease of, in the order in which it was taken.</summary>
    [Id(5)] public IReadOnlyList<WorkInHand> Work { get; init; } = [];

    /// <summary>Pieces of work that it has computed since its silo started.</summary>
    [Id(6)] public long ShardsDone { get; init; }

    /// <summary>Why it could not compute the last piece that it could not.</summary>
    [Id(7)] public string? LastFailure { get; init; }

    /// <summary>When that was.</summary>
    [Id(8)] public DateTimeOffset? LastFailureAt { get; init; }

    /// <summary>Which last bits its device gives: workers of one name give equal bits; null where its silo does not tell.</summary>
    [Id(9)] public string? Arithmetic { get; init; }
}

/// <summary>A piece of work that a worker holds.</summary>
/// <param name="Run">Trial, as <c>experiment/index</c>; of a replay a name of its own.</param>
/// <param name="Kind"><c>prepare</c>, <c>prove</c>, <c>evaluateBefore</c>, <c>gradient</c>, <c>evaluateAfter</c> or <c>save</c>.</param>
/// <param name="Step">Step of a gradient, from 1; of other work the steps committed before it.</param>
/// <param name="Shard">Shard, or part of an evaluation, from 0.</param>
/// <param name="Progress">How far it is.</param>
/// <param name="Since">When the worker took it.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.WorkInHand")]
public sealed record WorkInHand([property: Id(0)] string Run, [property: Id(1)] string Kind, [property: Id(2)] int Step, [property: Id(3)] int Shard, [property: Id(4)] WorkProgress Progress, [property: Id(5)] DateTimeOffset Since)
{
    /// <summary>In the place of the trial's name, of work that is another project's.</summary>
    public const string Foreign = "another project";
}
