using System.Xml.Linq;

namespace AdjointDpm.Client.Reporting;

/// <summary>Several experiments beside each other.</summary>
internal static class ReportComparison
{
    private const int MostLines = 100, MostPictures = 12;

    public static XElement Of(IReadOnlyList<ReportedExperiment> experiments, ReportPictures pictures)
    {
        var specs = experiments.Select(experiment => SpecLeaves.Of(experiment.Recorded.Report.Spec).ToDictionary(leaf => leaf.Path, leaf => leaf.Value)).ToList();
        var differing = specs.SelectMany(spec => spec.Keys).Distinct().Where(path => specs.Select(spec => spec.GetValueOrDefault(path, "–")).Distinct().Count() > 1).Order(StringComparer.Ordinal).ToList();
        return new XElement("section",
            new XElement("h1", $"{experiments.Count} experiments compared"),
            Html.Table(["", .. experiments.Select(experiment => experiment.Recorded.Id)],
            [
                Row("state", experiment => Words.State(experiment.Verdict.State)),
                Row("objective", experiment => experiment.Verdict.Objective),
                Row("before", experiment => experiment.Verdict.Before is { } value ? Words.Number(value) : "–"),
                Row("best", experiment => experiment.Verdict.After is { } value ? Words.Number(value) + (experiment.Verdict.Before is { } before ? Verdict.Percent(before, value) : "") : "–"),
                Row("trials succeeded", experiment => $"{experiment.Verdict.Succeeded} of {experiment.Verdict.Trials}"),
                Row("gradient proven", experiment => $"{experiment.Verdict.Proven} of {experiment.Verdict.Checked}"),
                Row("ledger holds", experiment => $"{experiment.Verdict.Holds} of {experiment.Verdict.Audited}"),
                Row("got worse", experiment => string.Join(", ", experiment.Verdict.GotWorse.Select(change => change.Name))),
                Row("device time of the best", experiment => experiment.Recorded.Best?.CostOf("workerSeconds") is { } seconds ? Words.Span(TimeSpan.FromSeconds(seconds)) : "–"),
                Row("most bytes of a shard", experiment => experiment.Recorded.Best?.CostOf("peakLiveBytes") is { } bytes ? Words.Size((long)bytes) : "–"),
                Row("parameters of the best", experiment => ReportTexts.Hash(experiment.Recorded.Best?.ParametersSha256)),
            ]),
            Overlay(experiments, pictures),
            new XElement("h2", "What their specs differ in"),
            differing.Count == 0 ? new XElement("p", "Nothing.") : Html.Table(["", .. experiments.Select(experiment => experiment.Recorded.Id)], differing.Select(path => (object[])[path, .. specs.Select(spec => ReportTexts.Cut(spec.GetValueOrDefault(path, "–"), 300))])));

        object[] Row(string name, Func<ReportedExperiment, string> value) => [name, .. experiments.Select(value)];
    }

    /// <summary>The best trial of each in one chart, and their samples beside each other.</summary>
    private static object?[] Overlay(IReadOnlyList<ReportedExperiment> experiments, ReportPictures pictures)
    {
        var best = experiments.Where(experiment => experiment.Recorded.Best is { LossHistory.Count: > 0 }).Take(MostLines).ToList();
        var after = experiments.Take(MostPictures).Select(experiment => (experiment.Recorded.Id, Picture: experiment.Recorded.Best is { } trial ? pictures.Of(experiment.Recorded, trial.Index, "after.png", $"After training, {experiment.Recorded.Id}") : null)).Where(one => one.Picture is not null).ToList();
        return
        [
            best.Count < 2 ? null : new object[]
            {
                new XElement("h2", "Training loss of the best trials"),
                Chart.Lines("Training loss of the best trial of each experiment", "step", [.. best.Select((experiment, i) => new ChartLine($"{experiment.Recorded.Id}, trial {experiment.Recorded.Best!.Index}", ReportCurves.Thinned(experiment.Recorded.Best!.LossHistory), Best: i == 0))], []),
                new XElement("p", new XAttribute("class", "note"), $"Coloured: {best[0].Recorded.Id}. Losses are comparable where the specs below name the same losses and weights."),
            },
            after.Count < 2 ? null : new object[]
            {
                new XElement("h2", "Samples of the best trials"),
                new XElement("div", new XAttribute("class", "charts"), after.Select(one => new XElement("figure", new XElement("figcaption", one.Id), new XElement("div", new XAttribute("class", "pair"), one.Picture)))),
            },
        ];
    }
}
