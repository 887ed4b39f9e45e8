namespace AdjointDpm.Grains.Experiments;

/// <summary>A committed step of a trial: its metrics, and what was observed of it.</summary>
/// <param name="Step">Number of steps committed with it, from 1.</param>
/// <param name="Metrics">Metrics of the step: the same whenever it is done again.</param>
/// <param name="Profile">What was observed; null where nothing was kept, as of what a crash took.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.TrialStep")]
public sealed record TrialStep([property: Id(0)] int Step, [property: Id(1)] IReadOnlyDictionary<string, double> Metrics, [property: Id(2)] StepProfile? Profile);

/// <summary>What was observed of a step, for people: times and places, which are others whenever the step is done again, and so no part of the ledger.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.StepProfile")]
public sealed record StepProfile
{
    /// <summary>Number of steps committed with it, from 1; 0 of what was measured before the first.</summary>
    [Id(0)] public required int Step { get; init; }

    /// <summary>Norm of ∂L/∂x, of the step's whole loss, at each point of the sampler's grid from x_T to x_0.</summary>
    [Id(1)] public IReadOnlyList<double>? AdjointNorms { get; init; }

    /// <summary>Where the coordinator's time went.</summary>
    [Id(2)] public StepTimes? Times { get; init; }

    /// <summary>Each shard's work, by shard.</summary>
    [Id(3)] public IReadOnlyList<ShardProfile>? Shards { get; init; }

    /// <summary>Means over held-out samples, where they were looked at after this step.</summary>
    [Id(4)] public IReadOnlyDictionary<string, double>? HeldOut { get; init; }

    /// <summary>Most bytes that a shard of it held on the native heap above those before; null where no worker tells.</summary>
    [Id(5)] public long? PeakBytes { get; init; }

    /// <summary>SHA-256 of a picture of samples after this step, always of the same noise; null where none was drawn.</summary>
    [Id(6)] public string? Picture { get; init; }
}

/// <summary>Seconds of a step at its coordinator.</summary>
/// <param name="Shards">Waiting for the shards' gradients.</param>
/// <param name="Reduce">Adding them up.</param>
/// <param name="Optimize">The optimiser's step, and writing its result.</param>
/// <param name="Commit">The commit.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.StepTimes")]
public sealed record StepTimes([property: Id(0)] double Shards, [property: Id(1)] double Reduce, [property: Id(2)] double Optimize, [property: Id(3)] double Commit)
{
    /// <summary>All together.</summary>
    public double Total => Shards + Reduce + Optimize + Commit;
}

/// <summary>Seconds and memory of a shard's gradient at its worker.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.ShardProfile")]
public sealed record ShardProfile
{
    /// <summary>Who computed it.</summary>
    [Id(0)] public required string Worker { get; init; }

    /// <summary>Fetching the parameters.</summary>
    [Id(1)] public double Fetch { get; init; }

    /// <summary>Waiting for the device.</summary>
    [Id(2)] public double Queue { get; init; }

    /// <summary>From noise to sample.</summary>
    [Id(3)] public double Forward { get; init; }

    /// <summary>The loss and its gradient.</summary>
    [Id(4)] public double Loss { get; init; }

    /// <summary>From sample back to noise.</summary>
    [Id(5)] public double Backward { get; init; }

    /// <summary>All together, as the worker saw it.</summary>
    [Id(6)] public double Total { get; init; }

    /// <summary>Most tensors held at once.</summary>
    [Id(7)] public long PeakTensors { get; init; }

    /// <summary>Most bytes in use on the native heap above those before; null where the C library does not tell.</summary>
    [Id(8)] public long? PeakBytes { get; init; }
}
