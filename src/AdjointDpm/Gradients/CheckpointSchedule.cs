namespace AdjointDpm.Gradients;

/// <summary>Where to keep states so that all are had back, in reverse order, with the fewest steps walked again. Griewank and Walther (2000), "Algorithm 799: revolve", for a known number of steps.</summary>
public static class CheckpointSchedule
{
    /// <summary>Fewest steps to walk, without the graphs, to reverse a stretch whose first state is stored: r l - C(slots + r, slots + 1) with the least r for which C(slots + r, slots) reaches l.</summary>
    /// <param name="steps">Length l of the stretch, at least 1.</param>
    /// <param name="slots">States that can be stored at once, the first one included; at least 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">One of them is below 1.</exception>
    public static long Walked(int steps, int slots)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(steps, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(slots, 1);
        // reach = C(slots + r, slots), before = C(slots + r, slots + 1).
        long r = 0, reach = 1, before = 0;
        while (reach < steps)
        {
            before += reach;
            r++;
            reach = reach * (slots + r) / r;
        }

        return (r * steps) - before;
    }

    /// <summary>Fewest steps walked a second time or more often, when the way to the sample stores states too.</summary>
    /// <param name="steps">Number of steps N, at least 1.</param>
    /// <param name="slots">States that can be stored at once, at least 1. With N of them nothing is walked again.</param>
    public static long Recomputed(int steps, int slots) => Walked(steps, slots) - (steps - 1);

    /// <summary>How far from a stored state the next one is stored, on the way to the end of a stretch.</summary>
    /// <param name="steps">Length of the stretch.</param>
    /// <param name="slots">States that can be stored, the one at its start included.</param>
    /// <returns>Steps to the next stored state; the stretch's length if none is to be stored.</returns>
    internal static int Next(int steps, int slots)
    {
        if (slots < 2 || steps < 2)
            return steps;
        // The cost of storing after m steps is convex in m; of the best, the farthest spares a slot longest.
        var (best, least) = (1, long.MaxValue);
        for (var m = 1; m < steps; m++)
        {
            var cost = m + Walked(steps - m, slots - 1) + Walked(m, slots);
            if (cost > least)
                break;
            (best, least) = (m, cost);
        }

        return best;
    }
}
