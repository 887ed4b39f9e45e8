namespace AdjointDpm.Grains.Specs;

/// <summary>What is measured on held-out samples, by name: as a worker counts it, without "heldOut." before and ".after" behind.</summary>
internal static class HeldOutMetrics
{
    public const string Loss = "loss", Accuracy = "accuracy", Diversity = "diversity", Distance = "distance", LossesPrefix = "losses.", LossesSum = "losses.sum";

    /// <summary>Names of losses in the order of a spec: with their place where several have one name.</summary>
    public static IReadOnlyList<string> NamesOf(IReadOnlyList<LossSpec> losses) =>
        [.. losses.Select((loss, i) => losses.Count(other => other.Name == loss.Name) > 1 ? $"{NameOf(loss.Name)}.{i}" : NameOf(loss.Name))];

    /// <summary>Everything that a spec's evaluations measure.</summary>
    public static IReadOnlyList<string> Of(ExperimentSpec spec)
    {
        var names = new List<string> { Loss };
        names.AddRange(NamesOf(spec.Losses));
        if (spec.HeldOut is not { } heldOut)
            return names;
        if (heldOut.Losses is { } losses)
            names.AddRange([LossesSum, .. NamesOf(losses).Select(name => LossesPrefix + name)]);
        foreach (var (name, isMeasured) in new[] { (Accuracy, heldOut.Classifier is not null), (Diversity, heldOut.Diversity == true), (Distance, heldOut.Distance == true) })
            if (isMeasured)
                names.Add(name);
        return names;
    }

    /// <summary>Whether it is of held-out samples alone: no loss of the training has that name.</summary>
    public static bool IsOnlyHeldOut(string name) => name is Accuracy or Diversity or Distance || name.StartsWith(LossesPrefix, StringComparison.Ordinal);

    /// <summary>The number by which the best version is kept.</summary>
    public static string Kept(HeldOutSpec heldOut) => heldOut.Metric ?? Loss;

    /// <summary>Whether that number is better than another one of it.</summary>
    public static bool IsBetter(HeldOutSpec heldOut, double value, double than) => Grows(heldOut) ? value > than : value < than;

    private static bool Grows(HeldOutSpec heldOut) => heldOut.Goal is { } goal ? goal == Goal.Maximize : heldOut.Metric is Accuracy or Diversity;

    private static string NameOf(LossName name)
    {
        var text = name.ToString();
        return name == LossName.TorchScript ? "torchscript" : char.ToLowerInvariant(text[0]) + text[1..];
    }
}
