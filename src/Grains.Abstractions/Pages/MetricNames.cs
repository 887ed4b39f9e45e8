namespace AdjointDpm.Grains.Pages;

/// <summary>Metrics by the name that people read them under.</summary>
internal static class MetricNames
{
    private const string HeldOut = "heldOut.";

    /// <summary>Names of all metrics, sorted. What stands everywhere with the same number as heldOut.NAME too, such as loss.after where the judge measured the losses that are trained, is named once.</summary>
    public static IReadOnlyList<string> Once(params IReadOnlyCollection<IReadOnlyDictionary<string, double>> metrics) =>
        [.. metrics.SelectMany(one => one.Keys).Distinct().Where(name => !IsTwice(name, metrics)).Order(StringComparer.Ordinal)];

    private static bool IsTwice(string name, IReadOnlyCollection<IReadOnlyDictionary<string, double>> metrics) =>
        // The newest training loss and the newest held-out one are two things that may be equal by chance.
        (name.EndsWith(".before", StringComparison.Ordinal) || name.EndsWith(".after", StringComparison.Ordinal))
        && metrics.Where(one => one.ContainsKey(name)).All(one => one.TryGetValue(HeldOut + name, out var twin) && twin.Equals(one[name]));
}
