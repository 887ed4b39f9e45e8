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
