using System.Xml.Linq;
using AdjointDpm.Grains.Tools;

namespace AdjointDpm.Client.Reporting;

/// <summary>What the trials took: time by part, and bytes beside what was planned.</summary>
internal static class ReportCost
{
    private const int MostTrials = 20;

    public static object?[] Of(ReportedExperiment experiment)
    {
        var recorded = experiment.Recorded;
        var trials = recorded.Ranked().Take(MostTrials).ToList();
        var content = new List<object?>
        {
            Html.Table(["trial", "wall time", "device time", "sample", "loss", "adjoint", "samples", "evaluations forward", "backward", "VJPs", "most bytes of a shard", "planned", "shards reissued"], trials.Select(trial => new object[]
            {
                trial.Index, trial.Seconds is { } seconds ? Words.Span(TimeSpan.FromSeconds(seconds)) : "", Span(trial, "workerSeconds"), Span(trial, "sampleSeconds"), Span(trial, "lossSeconds"), Span(trial, "adjointSeconds"),
                trial.Whole("samples"), trial.Whole("forwardNfe"), trial.Whole("backwardNfe"), trial.Whole("vjps"), Size(trial.CostOf("peakLiveBytes")), Size(PlannedOf(experiment, trial)), trial.ShardsReissued,
            })),
            recorded.Report.Trials.Count > MostTrials ? new XElement("p", new XAttribute("class", "note"), $"The first {MostTrials} trials by objective.") : null,
            StepCharts.Times(trials.Where(trial => trial.Times is not null).Select(trial => ($"trial {trial.Index}", trial.Times!))),
        };
        if (Measured(experiment, trials) is { } sentence)
            content.Add(new XElement("p", sentence));
        if (experiment.Plan is { } plan)
            content.Add(Html.Table(["method, planned on this machine", "most bytes of a shard", "states", "network", "loss", "gradients", "evaluations"], plan.Methods.Select(method => new object[]
            {
                method.Method + (method.IsConfigured ? ", of the spec" : ""), Words.Size(method.PeakBytes), Words.Size(method.StateBytes), Words.Size(method.NetworkBytes), Words.Size(method.LossBytes), Words.Size(method.GradientBytes), method.Evaluations,
            })));
        if ((recorded.Best ?? trials.FirstOrDefault()) is { History.Count: > 0 } best && StepCharts.Cost(best.History, (long?)PlannedOf(experiment, best)) is { } charts)
        {
            content.Add(new XElement("h3", $"Trial {best.Index}, step by step"));
            content.Add(charts);
        }
        return [.. content];
    }

    /// <summary>Plan against measured, in a sentence; what to do where one of them is missing.</summary>
    private static string? Measured(ReportedExperiment experiment, List<RecordedTrial> trials)
    {
        var pairs = trials.Select(trial => (Measured: trial.CostOf("peakLiveBytes"), Planned: PlannedOf(experiment, trial))).Where(pair => pair is { Measured: > 0, Planned: > 0 }).ToList();
        if (pairs.Count > 0)
            return FormattableString.Invariant($"Shards held {pairs.Min(pair => pair.Measured!.Value / pair.Planned!.Value):p0} to {pairs.Max(pair => pair.Measured!.Value / pair.Planned!.Value):p0} of what was planned for them.");
        return trials.All(trial => trial.CostOf("peakLiveBytes") is null) ? "Bytes of memory were not told by the workers: that takes glibc 2.33 or later, or a GPU whose allocator tells."
            : experiment.Plan is null ? "No plan was made for this kind of model when the trials began; 'adpm report ID --plan' measures one on this machine and puts it beside." : null;
    }

    /// <summary>Bytes that a shard was planned to hold: when the trial began, else on the machine of the report.</summary>
    private static double? PlannedOf(ReportedExperiment experiment, RecordedTrial trial) =>
        trial.CostOf("plannedBytes") ?? (trial.Parameters.Count == 0 || experiment.Recorded.Best?.Index == trial.Index ? Configured(experiment.Plan)?.PeakBytes : null);

    private static MethodMemory? Configured(ShardMemory? plan) => plan?.Methods.FirstOrDefault(method => method.IsConfigured);

    private static string Span(RecordedTrial trial, string name) => trial.CostOf(name) is { } seconds ? Words.Span(TimeSpan.FromSeconds(seconds)) : "";

    private static string Size(double? bytes) => bytes is { } some ? Words.Size((long)some) : "";
}
