using System.Globalization;
using System.Xml.Linq;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Silo.Web;

/// <summary>A trial as it goes: curves, where on the way the gradient is large, time and memory, pictures.</summary>
internal static class TrialPageView
{
    /// <summary>Rows of pictures; of more evenly chosen ones.</summary>
    private const int MostFrames = 60;

    public static IResult Of(ExperimentSnapshot experiment, TrialSnapshot trial, IReadOnlyList<TrialStep> steps, IReadOnlyList<ManifestFile> files, TimeProvider time)
    {
        var id = experiment.Summary.Id;
        var ended = Words.Ended(trial.State);
        var path = WebPage.AddressOf(id, trial.Index);
        return WebPage.Of($"Trial {trial.Index} of {id}", WebPage.Live(experiment),
            WebPage.Crumbs(WebPage.Link("/", "Experiments"), WebPage.Link(WebPage.AddressOf(id), id), WebPage.Link(path, $"trial {trial.Index}")),
            new XElement("h1", $"Trial {trial.Index}"),
            WebPage.Part("state", Facts(trial, ended, time)),
            Section("curves", "Loss and reward", StepCharts.Curves(steps), StepCharts.AgainstHeldOut(steps)),
            Section("gradient", "Gradient", StepCharts.Gradient(steps)),
            Section("steps", "Samples on the way", Frames(path, steps)),
            Section("pictures", "Before and after", Pictures(path, files)),
            Section("time", "Time and memory", trial.Totals is { } totals ? StepCharts.Times([($"trial {trial.Index}", totals.Times)]) : null, StepCharts.Cost(steps, trial.Totals?.PlannedBytes)),
            WebPage.Part("record", Record(id, trial, path, files)));
    }

    private static XElement Section(string id, string title, params IEnumerable<XElement?> content) => WebPage.Part(id, content.OfType<XElement>().ToList() is { Count: > 0 } some ? [new XElement("h2", title), some] : null);

    private static object[] Facts(TrialSnapshot trial, bool ended, TimeProvider time) =>
    [
        WebPage.Facts(
            [
                ("state", new object[] { WebPage.State(trial.State), !ended && trial.Phase is { Length: > 0 } phase ? " " + phase : "" }),
                ("steps", new object[] { string.Create(CultureInfo.InvariantCulture, $"{trial.Step} of {trial.Steps} "), ended ? "" : new XElement("progress", new XAttribute("max", Math.Max(1, trial.Steps)), new XAttribute("value", trial.Step), new XAttribute("aria-label", "Steps")) }),
                .. trial.Parameters.Select(parameter => (parameter.Key, (object?)parameter.Value)),
                ("time", trial.StartedAt is { } start ? ended && trial.EndedAt is { } end ? Words.Span(end - start) : Words.Span(TimeSpan.FromMinutes(Math.Floor((time.GetUtcNow() - start).TotalMinutes))) + " so far" : null),
                ("shards reissued", trial.ShardsReissued > 0 ? trial.ShardsReissued : null),
                ("gradient", trial.Proof is { } proof ? proof is { Passed: true, IsEstimate: true } ? string.Create(CultureInfo.InvariantCulture, $"an estimate, cosine {proof.Cosine:f3} where it is worst") : proof.Passed ? $"proven, error {Words.Error(proof.RelativeError)}" : "NOT proven" : null),
                ("begun with", trial.BegunWith is { } origin ? $"the parameters of trial {origin}" : null),
            ]),
        trial.Reason is { Length: > 0 } reason ? new XElement("p", WebPage.Class("reason"), reason) : "",
        .. trial.Notices().Select(notice => new XElement("p", notice)),
    ];

    /// <summary>Rows of the same noise after one step after the other: without scripts below each other, else by a slider.</summary>
    private static XElement? Frames(string path, IReadOnlyList<TrialStep> steps)
    {
        var drawn = steps.Where(step => step.Profile?.Picture is not null).ToList();
        if (drawn.Count == 0)
            return null;
        var frames = Chart.Thin(drawn, MostFrames).Select(step => (step.Step, Source: $"{path}/pictures/{StepPictures.NameOf(new StepPicture(step.Step, step.Profile!.Picture!))}")).ToList();
        return new XElement("figure", Html.Frames(frames),
            new XElement("figcaption", $"The same noise as training goes on: each column is one seed.{(frames.Count < drawn.Count ? $" {frames.Count} of {drawn.Count} rows are shown." : "")}"));
    }

    private static XElement? Pictures(string path, IReadOnlyList<ManifestFile> files)
    {
        ManifestFile? Named(string name) => files.FirstOrDefault(file => file.Path == name);
        XElement Picture(ManifestFile file, string title) => new("img", new XAttribute("alt", title), new XAttribute("src", $"{path}/files/{file.Sha256}"), new XAttribute("loading", "lazy"));
        if (Named("before.png") is not { } before || Named("after.png") is not { } after)
            return null;
        return new XElement("figure",
            Html.Pair(Picture(before, "Samples before training"), Picture(after, "Samples after training, of the same noise"), "before", "after"),
            new XElement("figcaption", "The same noise before and after, by fixed seeds: the first samples of each class, not chosen."));
    }

    private static object[] Record(string id, TrialSnapshot trial, string path, IReadOnlyList<ManifestFile> files) =>
    [
        new XElement("h2", "Record"),
        new XElement("ul",
            new XElement("li", WebPage.Link(string.Create(CultureInfo.InvariantCulture, $"{WebPage.AddressOf(id)}/events?trial={trial.Index}"), "Events of this trial")),
            new XElement("li", WebPage.Link(string.Create(CultureInfo.InvariantCulture, $"{WebPage.AddressOf(id)}/audit?skip={trial.Index}"), "Audit"), trial.LedgerSha256 is { } ledger ? new object[] { ": ledger ", new XElement("code", ledger) } : null),
            trial.ParametersSha256 is { } parameters ? new XElement("li", "Parameters after the last step: ", new XElement("code", parameters)) : null,
            trial.Step > 0 ? new XElement("li", "Its last step once more: ", new XElement("code", string.Create(CultureInfo.InvariantCulture, $"adpm replay {id}/{trial.Index}@{trial.Step}"))) : null),
        files.Count == 0 ? "" : new XElement("details", new XElement("summary", Words.Count(files.Count, "file")),
            WebPage.Table("Files", ["file", "size", "SHA-256"], files.Select(file => new object?[] { WebPage.Link($"{path}/files/{file.Sha256}", file.Path), Words.Size(file.Length), new XElement("code", file.Sha256[..Math.Min(16, file.Sha256.Length)]) }))),
        trial.Metrics.Count == 0 ? "" : new XElement("details", new XElement("summary", "All metrics"),
            WebPage.Table("Metrics", ["metric", "newest"], MetricNames.Once(trial.Metrics).Select(name => new object?[] { name, Words.Number(trial.Metrics[name]) }))),
    ];
}
