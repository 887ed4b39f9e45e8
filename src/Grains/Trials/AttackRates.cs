using AdjointDpm.Scoring;

namespace AdjointDpm.Grains.Trials;

/// <summary>Rates of an attack on a classifier, from the shares of noises that a worker counted, each with its 95 % interval by Wilson.</summary>
internal static class AttackRates
{
    /// <summary>Adds <c>audit.noises</c>, their number, <c>audit.rate</c>, of the noises that did not meet the goal to begin with those that do, with <c>rateLow</c> and <c>rateHigh</c>; <c>audit.randomRate</c>, what blind moves bring; and of the successes
    /// <c>audit.recognisedRate</c>, those that still are their class to the held-out classifier. What nothing is known of is left out.</summary>
    /// <param name="metrics">Metrics of the trial; shares are of all noises.</param>
    /// <param name="when">"before" or "after".</param>
    /// <param name="noises">Number of noises.</param>
    public static void Add(Dictionary<string, double> metrics, string when, int noises)
    {
        if (Count("eligible") is not { } eligible || Count("success") is not { } success)
            return;
        metrics[$"audit.noises.{when}"] = noises;
        if (eligible == 0)
            return;
        Rate("rate", success, eligible);
        if (Count("random") is { } random)
            Rate("randomRate", random, eligible);
        if (success > 0 && Count("recognised") is { } recognised)
            Rate("recognisedRate", recognised, success);

        long? Count(string name) => metrics.TryGetValue($"audit.{name}.{when}", out var share) ? (long)Math.Round(share * noises) : null;

        void Rate(string name, long count, long of)
        {
            metrics[$"audit.{name}.{when}"] = (double)count / of;
            // Before there was any attack there is nothing to be unsure of.
            if (when == "after")
                (metrics[$"audit.{name}Low.{when}"], metrics[$"audit.{name}High.{when}"]) = WilsonInterval.Of(count, of);
        }
    }
}
