namespace AdjointDpm.Grains.Experiments;

/// <summary>A share of few, with its 95 % interval by Wilson.</summary>
internal sealed record AttackShare(int Count, int Of, double Low, double High)
{
    public double Value => (double)Count / Of;
}

/// <summary>What an attack on a classifier came to, in counts of noises, from the metrics of a trial.</summary>
/// <param name="Noises">Noises that were attacked.</param>
/// <param name="MetBefore">Those whose sample met the goal before anything was done: a classifier's own errors.</param>
/// <param name="MetAfter">Those whose sample meets it in the end, whatever it did at first.</param>
/// <param name="Success">Of those that did not meet it at first, the ones that do in the end; null when there were none.</param>
/// <param name="Chance">What blind moves as long as the attack's do to the same; null without a box.</param>
/// <param name="Recognised">Of the successes, those that still are their class to the held-out classifier; null without one, or without success.</param>
/// <param name="LargestMove">Mean over the noises of the largest move of a value.</param>
/// <param name="Move">Mean Euclidean length of the moves.</param>
/// <param name="SecondsPerSuccess">Seconds that devices computed for the attack, by success; null without any.</param>
internal sealed record AttackOutcome(int Noises, int MetBefore, int MetAfter, AttackShare? Success, AttackShare? Chance, AttackShare? Recognised, double LargestMove, double Move, double? SecondsPerSuccess)
{
    /// <summary>Null when the metrics are of something else.</summary>
    /// <param name="metrics">Metrics of a trial that ended.</param>
    /// <param name="trainingSeconds">What its steps took on devices.</param>
    public static AttackOutcome? Of(IReadOnlyDictionary<string, double> metrics, double? trainingSeconds)
    {
        if (!metrics.TryGetValue("audit.noises.after", out var number) || !metrics.ContainsKey("audit.eligible.after"))
            return null;
        var noises = (int)number;
        var (eligible, success) = (Count("eligible.after"), Count("success.after"));
        return new(noises, noises - eligible, Count("met.after"), Share("rate", success, eligible), Share("randomRate", Count("random.after"), eligible), Share("recognisedRate", Count("recognised.after"), success),
            metrics.GetValueOrDefault("noise.linf.after", double.NaN), metrics.GetValueOrDefault("noise.l2.after", double.NaN), success > 0 ? trainingSeconds / success : null);

        int Count(string name) => (int)Math.Round(metrics.GetValueOrDefault("audit." + name) * noises);

        AttackShare? Share(string name, int count, int of) => of > 0 && metrics.TryGetValue($"audit.{name}Low.after", out var low) && metrics.TryGetValue($"audit.{name}High.after", out var high) ? new(count, of, low, high) : null;
    }
}
