using System.Globalization;
using System.Text.Json.Serialization;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Reporting;

/// <summary>What <c>adpm report</c> writes beside the page. Keys are only ever added within a version.</summary>
internal sealed record ReportDocument(IReadOnlyList<Verdict> Experiments)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/report/v1";
}

/// <summary>An experiment in a few numbers, and the sentences that they support.</summary>
/// <param name="Id">Id.</param>
/// <param name="State">How it ended.</param>
/// <param name="Succeeded">Trials that succeeded.</param>
/// <param name="Trials">All trials.</param>
/// <param name="Objective">Metric that is optimised.</param>
/// <param name="BestTrial">Trial with its best value.</param>
/// <param name="Before">The metric before training, where it was measured.</param>
/// <param name="After">Its value in the best trial.</param>
/// <param name="Proven">Trials whose gradient was proven.</param>
/// <param name="Checked">Trials whose gradient was put to the proof.</param>
/// <param name="Audited">Trials whose ledger was read.</param>
/// <param name="Holds">Trials whose ledger holds.</param>
/// <param name="GotWorse">Held-out metrics that got worse in the best trial: name, before, after.</param>
/// <param name="Sentences">The verdict.</param>
internal sealed record Verdict(
    string Id, RunState State, int Succeeded, int Trials, string Objective, int? BestTrial, double? Before, double? After, int Proven, int Checked, int Audited, int Holds,
    IReadOnlyList<Change> GotWorse, IReadOnlyList<string> Sentences)
{
    /// <param name="experiment">What lies in the folder.</param>
    /// <param name="audits">Audits of its trials; empty where the ledger is not at hand.</param>
    public static Verdict Of(RecordedExperiment experiment, IReadOnlyList<TrialAudit> audits)
    {
        var report = experiment.Report;
        var (best, metric) = (experiment.Best, report.Objective.Metric);
        var succeeded = report.Trials.Count(trial => trial.State == RunState.Succeeded);
        var (estimates, proofs) = (report.Trials.Where(trial => trial.Proof is { IsEstimate: true }).Select(trial => trial.Proof!).ToList(), report.Trials.Where(trial => trial.Proof is { IsEstimate: false }).Select(trial => trial.Proof!).ToList());
        var (before, after) = (best is null ? null : BeforeOf(best, metric), best is null ? null : experiment.ObjectiveOf(best));
        var worse = best is null ? [] : Changes(experiment, best).Where(change => change.Name.StartsWith(HeldOut, StringComparison.Ordinal) && change.IsBetter == false).ToList();
        var holds = audits.Count(audit => audit.Holds);
        return new Verdict(report.Experiment.Id, report.Experiment.State, succeeded, report.Trials.Count, metric, best?.Index, before, after, proofs.Count(proof => proof.Passed), proofs.Count, audits.Count, holds, worse, [.. Sentences()]);

        IEnumerable<string> Sentences()
        {
            if (best is not null && after is { } value)
                yield return before is { } was
                    ? $"{metric} went from {Words.Number(was)} to {Words.Number(value)}{Percent(was, value)} in trial {best.Index}, the best of {Words.Count(report.Trials.Count, "trial")}."
                    : $"The best {metric} is {Words.Number(value)}, in trial {best.Index} of {Words.Count(report.Trials.Count, "trial")}.";
            else
                yield return $"No trial succeeded with a value of {metric}. {report.Reason}".Trim();
            if (succeeded < report.Trials.Count)
                yield return $"{succeeded} of {report.Trials.Count} trials succeeded.";
            if (estimates.MinBy(estimate => double.IsNaN(estimate.Cosine) ? double.NegativeInfinity : estimate.Cosine) is { } furthest)
                yield return string.Create(CultureInfo.InvariantCulture, $"The gradient {furthest.Method} is an estimate for training, not the gradient of the sampler: measured once, its cosine to the unrolled gradient is {furthest.Cosine:f3} and its norm ratio {furthest.NormRatio:g3} where it is worst.");
            if (proofs.Count > 0 || estimates.Count == 0)
                yield return proofs.Count == 0 ? "The gradient was not put to the proof (gradient.check.mode: off)."
                : proofs.All(proof => proof.Passed) ? $"The gradient was proven in {Of(proofs.Count, report.Trials.Count)}: it is within {Words.Error(proofs.Max(proof => proof.RelativeError))} of the unrolled gradient{(proofs[0].Exact ? "" : ", which this method only approximates")}, and finite differences agree."
                : $"The gradient was NOT proven in {proofs.Count(proof => !proof.Passed)} of {proofs.Count} trials: {proofs.First(proof => !proof.Passed).Finding}";
            if (audits.Count > 0)
                yield return holds == audits.Count ? $"The ledger of {Of(audits.Count, report.Trials.Count)} holds: every shard of every step counted exactly once." : $"The ledger of {audits.Count - holds} trials does NOT hold: run 'adpm audit {report.Experiment.Id}'.";
            foreach (var change in worse)
                yield return $"Got worse on what training never saw: {change.Name} from {Words.Number(change.Before)} to {Words.Number(change.After)}.";
        }
    }

    /// <summary>Metrics of a trial that were measured before and after training; what was noted under two names, such as loss and heldOut.loss, once.</summary>
    public static IEnumerable<Change> Changes(RecordedExperiment experiment, RecordedTrial trial)
    {
        var names = MetricNames.Once(trial.Metrics).Where(key => key.EndsWith(".after", StringComparison.Ordinal)).Select(key => key[..^".after".Length]).Where(name => trial.Metrics.ContainsKey(name + ".before"));
        return names.Order(StringComparer.Ordinal).Select(name =>
        {
            var (before, after) = (trial.Metrics[name + ".before"], trial.Metrics[name + ".after"]);
            return new Change(name, before, after, before.Equals(after) ? null : experiment.Grows(name, trial) is { } grows ? grows == after > before : null);
        });
    }

    private const string HeldOut = "heldOut.";

    /// <summary>The change in percent, in brackets; nothing where there is none to tell.</summary>
    public static string Percent(double from, double to) =>
        from == 0 || !double.IsFinite(to / from) ? "" : string.Create(CultureInfo.InvariantCulture, $" ({(to - from) / Math.Abs(from) * 100:+0;−0;0} %)");

    private static string Of(int some, int all) => some == all ? all == 1 ? "its trial" : $"all {all} trials" : $"{some} of {all} trials";

    private static double? BeforeOf(RecordedTrial trial, string metric) =>
        metric.EndsWith(".after", StringComparison.Ordinal) && trial.Metrics.TryGetValue(metric[..^".after".Length] + ".before", out var before) && double.IsFinite(before) ? before : null;
}

/// <summary>A metric before and after training.</summary>
/// <param name="Name">Without before and after.</param>
/// <param name="Before">Before.</param>
/// <param name="After">After.</param>
/// <param name="IsBetter">Whether that is what was wanted; null where it did not change, or nobody has said which way is good.</param>
internal sealed record Change(string Name, double Before, double After, bool? IsBetter);
