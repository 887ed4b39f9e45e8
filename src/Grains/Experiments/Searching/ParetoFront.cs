namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>Order among points of several numbers, all of which are to be small.</summary>
internal static class ParetoFront
{
    /// <summary>Whether a is nowhere larger than b and somewhere smaller.</summary>
    public static bool Dominates(IReadOnlyList<double> a, IReadOnlyList<double> b)
    {
        var smaller = false;
        for (var i = 0; i < a.Count; i++)
        {
            if (a[i] > b[i])
                return false;
            smaller |= a[i] < b[i];
        }
        return smaller;
    }

    /// <summary>Indices of the points that none dominates, in their order.</summary>
    public static List<int> First(IReadOnlyList<IReadOnlyList<double>> points)
    {
        // By their first numbers: what dominates a point stands before it, so only those kept so far must be looked at.
        var order = Enumerable.Range(0, points.Count).OrderBy(i => points[i], Comparer<IReadOnlyList<double>>.Create(Compare)).ThenBy(i => i);
        var front = new List<int>();
        foreach (var i in order)
            if (!front.Exists(kept => Dominates(points[kept], points[i])))
                front.Add(i);
        front.Sort();
        return front;
    }

    /// <summary>The points in fronts: the first is dominated by none, the second by none but the first, and so on.</summary>
    public static List<List<int>> Fronts(IReadOnlyList<IReadOnlyList<double>> points)
    {
        var (left, fronts) = (Enumerable.Range(0, points.Count).ToList(), new List<List<int>>());
        while (left.Count > 0)
        {
            fronts.Add([.. First([.. left.Select(i => points[i])]).Select(at => left[at])]);
            left.RemoveAll(fronts[^1].Contains);
        }
        return fronts;
    }

    /// <summary>For each point of a front how far its neighbours are, summed over the numbers in parts of their range; infinite at the ends.</summary>
    public static double[] Crowding(IReadOnlyList<IReadOnlyList<double>> front)
    {
        var distances = new double[front.Count];
        for (var k = 0; front.Count > 0 && k < front[0].Count; k++)
        {
            var order = Enumerable.Range(0, front.Count).OrderBy(i => front[i][k]).ThenBy(i => i).ToArray();
            var range = front[order[^1]][k] - front[order[0]][k];
            (distances[order[0]], distances[order[^1]]) = (double.PositiveInfinity, double.PositiveInfinity);
            for (var at = 1; range > 0 && at < order.Length - 1; at++)
                distances[order[at]] += (front[order[at + 1]][k] - front[order[at - 1]][k]) / range;
        }
        return distances;
    }

    private static int Compare(IReadOnlyList<double>? a, IReadOnlyList<double>? b)
    {
        for (var i = 0; i < a!.Count; i++)
            if (a[i].CompareTo(b![i]) is not 0 and var order)
                return order;
        return 0;
    }
}
