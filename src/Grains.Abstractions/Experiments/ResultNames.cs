namespace AdjointDpm.Grains.Experiments;

/// <summary>Names within the place of an experiment's results, a folder or a bucket, which silos write and clients read.</summary>
internal static class ResultNames
{
    /// <summary>The experiment's report.</summary>
    public const string Report = "report.json";

    /// <summary>In a trial's folder: what its results are. They count from the moment it is there.</summary>
    public const string Manifest = "manifest.json";

    /// <summary>In a trial's folder: the comparison of its gradient with others.</summary>
    public const string Proof = "gradient-proof.json";

    /// <summary>A trial's folder.</summary>
    public static string OfTrial(int trial) => FormattableString.Invariant($"trial-{trial}");
}
