using System.Globalization;
using System.Xml.Linq;
using AdjointDpm.Client.LocalCluster;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.Reporting;

/// <summary>What makes an experiment believable: the proof, all that repeats it, and what it does not show.</summary>
internal static class ReportRecord
{
    public static object[] Proof(RecordedExperiment experiment)
    {
        var judged = experiment.Report.Trials.Where(trial => trial.Proof is not null).ToList();
        if (judged.Count == 0)
            return [new XElement("p", "Not recorded: the spec says gradient.check.mode: off. 'adpm check FILE' proves it on a probe batch.")];
        var trial = judged.FirstOrDefault(trial => trial.Index == experiment.Best?.Index) ?? judged[0];
        var content = new List<object>
        {
            new XElement("p", "Every trial began with this proof, in float64 on its own model and sampler: the configured gradient beside the one that automatic differentiation through the whole sampler gives, and that one beside finite differences."),
            Html.Table(["trials", "method", "verdict", "cosine", "norm ratio", "relative error"], judged.GroupBy(trial => trial.Proof!).Take(20).Select(group => new object[]
            {
                Some(group.Select(trial => trial.Index)), group.Key.Method, group.Key.Passed ? group.Key.IsEstimate ? "measured" : "PASS" : "FAIL: " + group.Key.Finding,
                group.Key.Cosine.ToString("f8", CultureInfo.InvariantCulture), group.Key.NormRatio.ToString("g6", CultureInfo.InvariantCulture), Words.Error(group.Key.RelativeError),
            })),
        };
        if (experiment.ProofOf(trial.Index) is { } proof)
        {
            content.Add(new XElement("details", new XElement("summary", $"Trial {trial.Index} by parameter group and by step of the trajectory"),
                Html.Table(["∂L/∂", "cosine", "norm ratio", "relative error"], proof.Groups.Concat(proof.States).Select(row => new object[] { row.Rho is { } rho ? $"{row.Name}, ρ = {Words.Number(rho)}" : row.Name, row.Cosine.ToString("f8", CultureInfo.InvariantCulture), row.NormRatio.ToString("g6", CultureInfo.InvariantCulture), Words.Error(row.RelativeError) })),
                Html.Table(["along a direction of", "finite difference", "±", "unrolled", "configured"], proof.Differences.Select(row => new object[] { row.Name, Nine(row.FiniteDifference), Words.Error(row.Uncertainty), Nine(row.Unrolled), Nine(row.Configured) }))));
        }
        return [.. content];

        static string Nine(double value) => value.ToString("g9", CultureInfo.InvariantCulture);
    }

    public static object?[] Reproduction(ReportedExperiment experiment)
    {
        var report = experiment.Recorded.Report;
        var hashes = new List<object[]> { new object[] { "spec", report.SpecSha256 }, new object[] { "model before", report.ModelSha256 ?? "not recorded" } };
        foreach (var trial in experiment.Recorded.Ranked().Where(trial => trial.ParametersSha256 is not null).Take(20))
        {
            hashes.Add([$"trial {trial.Index}, parameters", trial.ParametersSha256!]);
            if (trial.LedgerSha256 is { } ledger)
                hashes.Add([$"trial {trial.Index}, ledger", ledger]);
        }
        return
        [
            new XElement("p", "Save this as experiment.yaml and run it. On a device of the same kind every trial ends in the same SHA-256, on any number of silos:"),
            new XElement("pre", new XElement("code", "adpm run experiment.yaml --silos 2")),
            report.Command is { Length: > 0 } command ? new XElement("p", "It was started by ", new XElement("code", command), "; what its --set changed is in the file below.") : null,
            new XElement("details", new XElement("summary", "experiment.yaml"), new XElement("pre", new XElement("code", ExperimentYaml.Write(report.Experiment.Name, report.Spec.ToJsonString(ExperimentSpecJson.Options), report.Labels)))),
            new XElement("p", "A single step of it: ", new XElement("code", $"adpm replay {experiment.Verdict.Id}/{experiment.Verdict.BestTrial ?? 0}@1"), ". Its ledger: ", new XElement("code", $"adpm audit {experiment.Verdict.Id}"), "."),
            Html.Table(["what", "SHA-256"], hashes),
            Html.Table(["versions, seeds, hardware", ""], report.Versions.Select(pair => new object[] { pair.Key, pair.Value })
                .Concat(report.Seeds.Where(pair => pair.Value is not null).Select(pair => new object[] { $"seed of {pair.Key}", pair.Value!.Value.ToString(CultureInfo.InvariantCulture) }))
                .Concat(report.Resources.Select(pair => new object[] { pair.Key, pair.Value.ToString() }))
                .Concat(report.Kinds is { Count: > 0 } kinds ? [new object[] { "arithmetic of the workers", string.Join(", ", kinds) }] : [])
                .Concat(report.Hardware.Count == 0 ? [] : [new object[] { "workers on", string.Join("; ", report.Hardware) }])),
        ];
    }

    public static IEnumerable<string> Limitations(ReportedExperiment experiment)
    {
        var report = experiment.Recorded.Report;
        if (report.Spec["heldOut"]?["samples"] is { } samples)
            yield return $"Held-out figures are means over {samples} samples of fixed noise; their spread is not recorded.{(report.Spec["heldOut"]?["classifier"] is null ? " They are judged by the loss that was trained on, not by a network that took no part." : "")}";
        else
            yield return "No judge was named (heldOut): figures after training are of the losses that were trained on, on noise that training did not see.";
        if (report.Trials.FirstOrDefault(trial => trial.Proof is { Exact: false }) is { } inexact)
            yield return inexact.Proof!.IsEstimate
                ? $"The gradient method '{inexact.Proof.Method}' is an estimate for training and claims no gradient of the sampler; how near it is in one draw stands above."
                : $"The gradient method '{inexact.Proof.Method}' does not give the gradient of the sampler as it is run, but approximates it; the proof above says how well.";
        if (experiment.Verdict.Checked < experiment.Verdict.Trials)
            yield return $"The gradient of {experiment.Verdict.Trials - experiment.Verdict.Checked} trials was not put to the proof.";
        if (experiment.Audits.Count == 0)
            yield return "The ledger was not at hand when this was written, so exactly-once counting was not audited here.";
        else if (experiment.Audits.Count < report.Trials.Count)
            yield return $"The ledgers of {report.Trials.Count - experiment.Audits.Count} trials were not audited here.";
        foreach (var trial in report.Trials.Where(trial => trial.State is RunState.Failed).Take(5))
            yield return $"Trial {trial.Index} failed: {trial.Reason}";
        if (report.Trials.Count(trial => trial.State is RunState.Failed) is > 5 and var failed)
            yield return $"{failed - 5} further trials failed; their reasons are in the table.";
        if (report.Trials.Count > 1)
            yield return $"The best of {report.Trials.Count} trials was chosen by {report.Objective.Metric}, so its value is optimistic; a run with another heldOut.seed measures by how much.";
        yield return "Equal bits are promised for an equal kind of device, dtype and number of threads.";
        if (report.Spec["model"]?["dtype"]?.ToString() == "float64")
            yield return $"In float64 that holds only where silos have {LocalClusterOptions.RepeatableVariable}=1, as 'adpm run' starts them.";
        if (report.Hardware.Count > 1)
            yield return $"The workers were not of one kind: {string.Join("; ", report.Hardware)}.";
        if (report.Kinds.Count is > 1 and var kinds)
            yield return $"Its workers were of {kinds} kinds that round differently. Each trial stayed with one kind{(report.Trials.Any(trial => trial.Arithmetic.Count > 1) ? ", except where it is said below" : "")}; a run on other machines may give a trial the bits of another kind.";
        foreach (var (index, notice) in report.Trials.SelectMany(trial => trial.Notices, (trial, notice) => (trial.Index, notice)).Take(5))
            yield return $"Trial {index}: {notice}";
        if (report.Trials.All(trial => trial.CostOf("peakLiveBytes") is null))
            yield return "Bytes of memory were not recorded.";
    }

    private static string Some(IEnumerable<int> trials) => trials.ToList() is { Count: > 10 } many ? $"{string.Join(", ", many.Take(10))}, … ({many.Count})" : string.Join(", ", trials);
}
