using System.Globalization;
using System.Xml.Linq;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Silo.Web;

/// <summary>An experiment: where it stands, what is best, its trials.</summary>
internal sealed class ExperimentPage(ExperimentSnapshot experiment, TimeProvider time)
{
    private readonly IReadOnlyList<ObjectiveSpec> _objectives = Objectives(experiment);

    private ExperimentSummary Summary => experiment.Summary;

    private string Path => WebPage.AddressOf(Summary.Id);

    /// <summary>The trials that charts show.</summary>
    public TrialQuery Valued() => new()
    {
        Where = [new TrialCondition("state", TrialComparison.Equal, "succeeded")],
        Sort = _objectives is [var first, ..] ? first.Metric : null,
        Descending = _objectives is [{ Goal: Goal.Maximize }, ..],
        Take = ExperimentSnapshot.MostTrials,
    };

    public IResult Of(TrialListing listing, TrialPage page, string? wrong, IReadOnlyList<TrialSnapshot> valued, int size)
    {
        var ended = Words.Ended(Summary.State);
        return WebPage.Of(Summary.Name, WebPage.Live(experiment),
            WebPage.Crumbs(WebPage.Link("/", "Experiments"), WebPage.Link(Path, Summary.Id)),
            new XElement("h1", Summary.Name.Length > 0 ? Summary.Name : Summary.Id),
            WebPage.Labels(Summary),
            WebPage.Part("state", State(ended)),
            WebPage.Part("best", Best(), Charts(valued)),
            new XElement("h2", "Trials"),
            Form(listing),
            WebPage.Part("trials",
                wrong is null ? null : new XElement("p", WebPage.Class("reason"), new XAttribute("role", "alert"), wrong),
                wrong is null ? Trials(listing, page, size) : null),
            new XElement("h2", "Record"),
            new XElement("ul",
                new XElement("li", WebPage.Link(Path + "/events", "Events")),
                new XElement("li", WebPage.Link(Path + "/audit", "Audit"), ": does every shard of every step count exactly once?"),
                new XElement("li", "Results: ", new XElement("code", experiment.ArtifactFolder)),
                new XElement("li", "As one page to keep: ", new XElement("code", $"adpm report {Summary.Id}"))),
            new XElement("details", new XElement("summary", $"Spec, SHA-256 {experiment.SpecSha256[..12]}…"), new XElement("pre", new XAttribute("tabindex", "0"), new XElement("code", ExperimentYaml.Write(Summary.Name, experiment.SpecJson)))));
    }

    private object[] State(bool ended) =>
    [
        WebPage.Facts(
            ("state", WebPage.State(Summary.State)),
            ("trials ended", new object[] { string.Create(CultureInfo.InvariantCulture, $"{Summary.TrialsEnded} of {Summary.Trials} "), ended ? "" : new XElement("progress", new XAttribute("max", Summary.Trials), new XAttribute("value", Summary.TrialsEnded), new XAttribute("aria-label", "Trials ended")) }),
            ("submitted", WebPage.Time(Summary.SubmittedAt)),
            // Of one that runs it would be another at every look.
            ("time", Summary.EndedAt is { } end ? Words.Span(end - Summary.SubmittedAt) : Words.Span(TimeSpan.FromMinutes(Math.Floor((time.GetUtcNow() - Summary.SubmittedAt).TotalMinutes))) + " so far")),
        experiment.Reason is { Length: > 0 } reason ? new XElement("p", WebPage.Class("reason"), reason) : "",
    ];

    private XElement? Best()
    {
        if (experiment.BestTrial is not { } index || experiment.Trials.FirstOrDefault(trial => trial.Index == index) is not { } best)
            return null;
        return new XElement("p", "Best: ", WebPage.Link(WebPage.AddressOf(Summary.Id, index), $"trial {index}"),
            string.Concat(_objectives.Select(objective => best.Metrics.TryGetValue(objective.Metric, out var value) ? $", {objective.Metric} {Words.Number(value)}" : "")),
            best.Parameters.Count > 0 ? " with " + string.Join(", ", best.Parameters.Select(parameter => $"{parameter.Key} = {parameter.Value}")) : "", ".",
            experiment.Front is { Count: > 1 } front ? new object[] { " No trial is better in all objectives than ", front.Take(20).SelectMany((trial, i) => new object[] { i == 0 ? "" : ", ", WebPage.Link(WebPage.AddressOf(Summary.Id, trial), trial) }), front.Count > 20 ? $", … ({front.Count})" : "", ": the Pareto front." } : null);
    }

    private XElement? Charts(IReadOnlyList<TrialSnapshot> valued)
    {
        if (_objectives.Count == 0 || valued.Count < 2)
            return null;
        double Of(TrialSnapshot trial, int objective) => trial.Metrics.GetValueOrDefault(_objectives[objective].Metric, double.NaN);
        if (_objectives.Count > 1)
        {
            var front = (experiment.Front ?? []).ToHashSet();
            var pairs = Enumerable.Range(1, _objectives.Count - 1).Select(k => Chart.Front(_objectives[0].Metric, _objectives[k].Metric,
                [.. valued.Where(trial => double.IsFinite(Of(trial, 0)) && double.IsFinite(Of(trial, k))).Select(trial => new ChartDot($"Trial {trial.Index}: {Words.Number(Of(trial, 0))}, {Words.Number(Of(trial, k))}", Of(trial, 0), Of(trial, k), front.Contains(trial.Index)))],
                connected: _objectives.Count == 2));
            return new XElement("div", WebPage.Class("charts"), pairs.Select(pair => new XElement("figure", pair, new XElement("figcaption", "Each dot is a trial that succeeded; coloured are those of the Pareto front."))));
        }
        var dots = valued.Where(trial => double.IsFinite(Of(trial, 0))).Select(trial => new ChartDot($"Trial {trial.Index}: {Words.Number(Of(trial, 0))}", trial.Index, Of(trial, 0), trial.Index == experiment.BestTrial)).ToList();
        return dots.Count < 2 ? null : new XElement("figure", Chart.Dots($"{_objectives[0].Metric} by trial", "trial", dots),
            new XElement("figcaption", $"{_objectives[0].Metric} of {(valued.Count == ExperimentSnapshot.MostTrials ? $"the best {valued.Count}" : Words.Count(valued.Count, "trial"))} that succeeded."));
    }

    private XElement Form(TrialListing listing) => new("form", new XAttribute("method", "get"), new XAttribute("action", Path), new XAttribute("role", "search"),
        new XElement("label", "Conditions", new XElement("input", new XAttribute("name", "where"), new XAttribute("type", "search"), new XAttribute("size", "32"), new XAttribute("placeholder", "state=succeeded loss<0.5"), new XAttribute("value", listing.Where ?? ""))),
        listing.Sort is { Length: > 0 } sort ? new XElement("input", new XAttribute("type", "hidden"), new XAttribute("name", "sort"), new XAttribute("value", sort)) : null,
        listing.Desc == true ? new XElement("input", new XAttribute("type", "hidden"), new XAttribute("name", "desc"), new XAttribute("value", "true")) : null,
        new XElement("button", "Filter"));

    private object[] Trials(TrialListing listing, TrialPage page, int size)
    {
        var paths = page.Trials.SelectMany(trial => trial.Parameters.Keys).Distinct().ToList();
        var metrics = _objectives.Select(objective => objective.Metric).Where(metric => metric != "loss").ToList();
        object Title(string text, string by) => new XElement("a", new XAttribute("href", listing.Address(Path, sort: by, descending: listing.Sort == by && listing.Desc != true)), text,
            listing.Sort == by ? listing.Desc == true ? " ↓" : " ↑" : "");
        return
        [
            WebPage.Table("Trials", [Title("trial", "index"), Title("state", "state"), .. paths.Select(path => Title(Words.Short(path, paths), path)), .. metrics.Select(metric => Title(metric, metric)), Title("loss", "loss"), "by step", Title("step", "step")],
                page.Trials.Select(trial => (object?[])
                [
                    new object[] { WebPage.Link(WebPage.AddressOf(Summary.Id, trial.Index), trial.Index), trial.Index == experiment.BestTrial ? " ★" : "" },
                    new object[] { WebPage.State(trial.State), trial.Phase is { Length: > 0 } phase && trial.State == RunState.Running ? $" {phase}" : "" },
                    .. paths.Select(path => trial.Parameters.GetValueOrDefault(path, "")),
                    .. metrics.Select(metric => trial.Metrics.TryGetValue(metric, out var value) ? Words.Number(value) : ""),
                    trial.Metrics.TryGetValue("loss", out var loss) ? Words.Number(loss) : "",
                    trial.LossHistory.Count > 1 ? Chart.Spark($"Loss of trial {trial.Index}", Chart.Thin(trial.LossHistory, 40)) : "",
                    string.Create(CultureInfo.InvariantCulture, $"{trial.Step}/{trial.Steps}"),
                ])),
            WebPage.Pages(listing.From, page.Trials.Count, size, listing.From + page.Trials.Count < page.Matched, page.Matched, "trial", skip => listing.Address(Path, skip)),
        ];
    }

    private static IReadOnlyList<ObjectiveSpec> Objectives(ExperimentSnapshot experiment)
    {
        try
        {
            return ExperimentSpecJson.Deserialize(experiment.SpecJson).Ranked();
        }
        catch (SpecException)
        {
            return []; // submitted by another version; the trials say enough
        }
    }
}
