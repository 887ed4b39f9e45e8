namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>What can go wrong.</summary>
internal enum Fault
{
    KillWorker,
    KillCoordinator,
    KillAll,
    Storage,
    Cut,
    Stall,
    Duplicate,
    LateStale,
}

/// <summary>Where a step can be when it goes wrong.</summary>
internal enum Phase
{
    Leased,
    Computing,
    Contributed,
    Reducing,
    BeforeCommit,
    AfterCommit,
}

/// <summary>What goes wrong in a run, and when. Everything is drawn from the seed.</summary>
internal sealed record FaultPlan
{
    /// <summary>Faults at a step's phases: the n-th time that the phase is reached.</summary>
    public IReadOnlyList<(Phase Phase, int Nth, Fault Fault)> AtPhases { get; init; } = [];

    /// <summary>Kills at any await: the n-th turn of the whole cluster.</summary>
    public IReadOnlyList<int> KillsAtTurn { get; init; } = [];

    /// <summary>Processes that stand still at any await, as by the n-th turn of the whole cluster.</summary>
    public IReadOnlyList<int> StallsAtTurn { get; init; } = [];

    /// <summary>Probability that a message is lost, delayed, or sent twice; each half before it is handled and half after.</summary>
    public double Lost { get; init; }

    public double Delayed { get; init; }

    public double Duplicated { get; init; }

    /// <summary>Probability that a write to the disk fails; half of those are done all the same.</summary>
    public double WriteFails { get; init; }

    /// <summary>Times at which the disk answers nobody: from second to second.</summary>
    public IReadOnlyList<(double From, double Until)> Outages { get; init; } = [];

    /// <summary>What every piece of work takes besides.</summary>
    public TimeSpan Long { get; init; }

    /// <summary>Probability that a shard takes long, or never ends.</summary>
    public double Slow { get; init; }

    public double Stuck { get; init; }

    /// <summary>Probability that the owner of a range takes longer for something than a call may as a rule.</summary>
    public double SlowOwner { get; init; }

    /// <summary>The n-th gradients of whole shards for which a worker has no room; each may change from which step on a trial asks for less.</summary>
    public IReadOnlyList<int> MemoryShort { get; init; } = [];

    /// <summary>How often workers are cordoned, or uncordoned, by chance.</summary>
    public int Cordons { get; init; }

    /// <summary>After this time nothing goes wrong any more, so that the run can end.</summary>
    public TimeSpan Until { get; init; } = TimeSpan.FromSeconds(40);

    public static FaultPlan None { get; } = new();

    /// <summary>A bit of everything.</summary>
    public static FaultPlan Random(int seed)
    {
        var random = new Random(seed);
        return new FaultPlan
        {
            AtPhases = [.. Enumerable.Range(0, random.Next(0, 3)).Select(_ => ((Phase)random.Next(6), random.Next(1, 20), (Fault)random.Next(8)))],
            KillsAtTurn = Turns(4),
            StallsAtTurn = Turns(3),
            Lost = Some(0.05),
            Delayed = Some(0.1),
            Duplicated = Some(0.1),
            WriteFails = Some(0.05),
            Slow = Some(0.2),
            Stuck = Some(0.03),
        };

        IReadOnlyList<int> Turns(int most) => [.. Enumerable.Range(0, random.Next(0, most)).Select(_ => random.Next(1, 4000))];

        double Some(double most) => random.Next(2) == 0 ? 0 : most * random.NextDouble();
    }
}

/// <summary>What happened in a run, or in many: faults that were really injected, and what became of contributions.</summary>
internal sealed class Tally
{
    private readonly SortedDictionary<string, long> _counts = new(StringComparer.Ordinal);

    public long this[string what] => _counts.GetValueOrDefault(what);

    public void Add(string what, long count = 1) => _counts[what] = this[what] + count;

    public void Add(Tally other)
    {
        foreach (var (what, count) in other._counts)
            Add(what, count);
    }

    public override string ToString() => string.Join(", ", _counts.Select(pair => $"{pair.Value} {pair.Key}"));
}
