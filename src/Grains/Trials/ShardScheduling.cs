using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Trials;

/// <summary>Who gets the next shard, and how long to wait: no state, no clock.</summary>
internal static class ShardScheduling
{
    /// <summary>Workers in the order in which a trial uses them.</summary>
    public static IReadOnlyList<string> Order(IReadOnlyList<string> workers, int rotation)
    {
        if (workers.Count < 2)
            return workers;
        var start = rotation % workers.Count;
        return [.. workers.Skip(start), .. workers.Take(start)];
    }

    /// <summary>How long a trial waits for workers that give the bits of its others, unless failure.unlikeAfterSeconds says so.</summary>
    public static readonly TimeSpan UnlikeAfter = TimeSpan.FromMinutes(1);

    /// <summary>Workers that give the bits that a trial began with, and such that do not tell.</summary>
    /// <param name="workers">All of them, sorted.</param>
    /// <param name="kindOf">Which last bits one gives.</param>
    /// <param name="kind">Which they must give. When null all of them, in the order in which a trial that has none yet should begin with them: trials fall on kinds by how many workers these have, the first on the largest.</param>
    /// <param name="rotation">Number of the trial.</param>
    public static IReadOnlyList<string> Like(IReadOnlyList<string> workers, Func<string, string?> kindOf, string? kind, int rotation)
    {
        if (kind is not null)
            return [.. workers.Where(worker => kindOf(worker) is var own && (own is null || own == kind))];
        var kinds = Kinds(workers, kindOf).ToList();
        if (kinds.Count < 2)
            return Order(workers, rotation);
        var first = Order([.. kinds.SelectMany(workers => workers)], rotation)[0];
        var own = kinds.Single(workers => workers.Contains(first));
        return [first, .. own.Where(worker => worker != first), .. workers.Except(own)];
    }

    /// <summary>The kind of most workers; null when none tells its own.</summary>
    public static string? Largest(IEnumerable<string> workers, Func<string, string?> kindOf) => Kinds(workers, kindOf).FirstOrDefault(workers => workers.Key is not null)?.Key;

    // The largest first.
    private static IEnumerable<IGrouping<string?, string>> Kinds(IEnumerable<string> workers, Func<string, string?> kindOf) =>
        workers.GroupBy(kindOf).OrderByDescending(workers => workers.Count()).ThenBy(workers => workers.Key, StringComparer.Ordinal);

    /// <summary>The workers that a trial may use now: at most <c>max</c>, first those that it uses already, or none while there are fewer than <c>min</c>.</summary>
    public static IReadOnlyList<string> Within(IReadOnlyList<string> ordered, SlotsSpec slots, IEnumerable<string> busy, Func<string, bool> isResting)
    {
        if (ordered.Count < (slots.Min ?? 1))
            return [];
        if (slots.Max is not { } most || most >= ordered.Count)
            return ordered;
        var used = busy.ToHashSet();
        return [.. ordered.Where(worker => used.Contains(worker) || !isResting(worker)).OrderByDescending(used.Contains).Take(most)];
    }

    /// <summary>Free lanes, one of every worker before the second of any: few shards spread over all workers.</summary>
    public static IEnumerable<string> Free(IReadOnlyList<string> workers, IEnumerable<string> busy, int lanes, Func<string, bool> isResting)
    {
        var held = busy.GroupBy(worker => worker).ToDictionary(group => group.Key, group => group.Count());
        var ready = workers.Where(worker => !isResting(worker)).ToList();
        for (var lane = 0; lane < lanes; lane++)
            foreach (var worker in ready)
                if (held.GetValueOrDefault(worker) <= lane)
                    yield return worker;
    }

    /// <summary>Length of one bounded wait: several fit into a lease, and all stay far below the response timeout.</summary>
    public static TimeSpan Wait(TimeSpan lease) => Clamp(lease / 4, TimeSpan.FromMilliseconds(100), TimeSpan.FromSeconds(2));

    /// <summary>failure.stragglerFactor where the spec has none.</summary>
    public const double StragglerFactor = 4;

    /// <summary>How old a lease must be before another worker takes the shard as well: far beyond what the round's other shards took. Null while too few have ended to tell.</summary>
    public static TimeSpan? Straggling(IReadOnlyList<TimeSpan> ended, int shards, TimeSpan lease, double factor = StragglerFactor) =>
        Median(ended, shards) is { } median ? Max(factor * median, 2 * lease) : null;

    /// <summary>How long a device may stand still: far beyond what whole shards of the round took, or what anything takes.</summary>
    public static TimeSpan Stuck(IReadOnlyList<TimeSpan> ended, int shards) =>
        Median(ended, shards) is { } median ? Max(10 * median, TimeSpan.FromMinutes(1)) : TimeSpan.FromMinutes(30);

    private static TimeSpan? Median(IReadOnlyList<TimeSpan> ended, int shards) => ended.Count == 0 || 2 * ended.Count < shards ? null : ended.Order().ElementAt(ended.Count / 2);

    private static TimeSpan Max(TimeSpan one, TimeSpan other) => one > other ? one : other;

    /// <summary>How often leases and the inventory are looked at.</summary>
    public static TimeSpan Pause(TimeSpan lease) => Clamp(lease / 10, TimeSpan.FromMilliseconds(50), TimeSpan.FromMilliseconds(500));

    /// <summary>How long a worker that failed gets nothing: its silo is likely gone, and membership will say so soon.</summary>
    public static TimeSpan RestAfter(int failures) => TimeSpan.FromMilliseconds(250 * Math.Pow(2, Math.Min(failures, 6) - 1));

    private static TimeSpan Clamp(TimeSpan value, TimeSpan min, TimeSpan max) => value < min ? min : value > max ? max : value;
}
