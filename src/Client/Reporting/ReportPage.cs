using System.Globalization;
using System.Xml.Linq;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Reporting;

/// <summary>An experiment, its verdict and what its ledger says.</summary>
internal sealed record ReportedExperiment(RecordedExperiment Recorded, IReadOnlyList<TrialAudit> Audits, Verdict Verdict)
{
    /// <summary>What the model was planned to take here, where that was asked for.</summary>
    public AdjointDpm.Grains.Tools.ShardMemory? Plan { get; init; }
}

/// <summary>The report as one page that needs nothing beside it: no network, pictures and charts inside.</summary>
internal static class ReportPage
{
    /// <param name="experiments">One, or several to compare.</param>
    /// <param name="folder">Folder that the page goes to, for its links to the results.</param>
    /// <param name="written">When.</param>
    public static string Of(IReadOnlyList<ReportedExperiment> experiments, string folder, DateTimeOffset written)
    {
        var title = experiments.Count == 1 ? experiments[0].Recorded.Report.Experiment.Name : $"{experiments.Count} experiments";
        var pictures = new ReportPictures(folder);
        var size = new ReportSize(experiments.Count);
        var page = new XElement("html", new XAttribute("lang", "en"),
            new XElement("head",
                new XElement("meta", new XAttribute("charset", "utf-8")),
                new XElement("meta", new XAttribute("name", "viewport"), new XAttribute("content", "width=device-width, initial-scale=1")),
                new XElement("title", $"{title} – AdjointDpm report"),
                new XElement("style", Style)),
            new XElement("body",
                new XElement("main",
                    experiments.Count > 1 ? ReportComparison.Of(experiments, pictures) : null,
                    experiments.Select((experiment, i) => experiments.Count == 1
                        ? (object)Sections(experiment, pictures, size)
                        : new XElement("details", i == 0 ? new XAttribute("open", "open") : null, new XElement("summary", experiment.Recorded.Id), Sections(experiment, pictures, size)))),
                new XElement("footer", $"Written {written.UtcDateTime.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture)} UTC by adpm report. The numbers are in the .verdict.json file beside it."),
                new XElement("script", Script)));
        return Html.Text(page);
    }

    private static object[] Sections(ReportedExperiment experiment, ReportPictures pictures, ReportSize size) =>
    [
        Head(experiment),
        Section("Before and after", pictures.Of(experiment.Recorded)),
        Section("Training and held-out", ReportCurves.Of(experiment.Recorded, pictures)),
        AttackSection.Of(experiment.Recorded) is { Length: > 0 } attack ? (object)Section("The attack", attack) : "",
        Section("Is the gradient right?", ReportRecord.Proof(experiment.Recorded)),
        Section("Memory and time", ReportCost.Of(experiment)),
        Section("Trials", ReportTrials.Of(experiment.Recorded, size)),
        Section("The same run again", ReportRecord.Reproduction(experiment)),
        Section("Limitations", new XElement("ul", ReportRecord.Limitations(experiment).Select(text => new XElement("li", text)))),
    ];

    private static object[] Head(ReportedExperiment experiment)
    {
        var (report, verdict) = (experiment.Recorded.Report, experiment.Verdict);
        var good = verdict.State == RunState.Succeeded && verdict.Proven == verdict.Checked && verdict.Holds == verdict.Audited;
        return
        [
            new XElement("h1", report.Experiment.Name.Length > 0 ? report.Experiment.Name : verdict.Id),
            new XElement("p", new XAttribute("class", "meta"), $"{verdict.Id} · {Words.State(verdict.State)} · {Words.Count(verdict.Trials, "trial")}"
                + (report.Experiment.EndedAt is { } end ? $" · {Words.Span(end - report.Experiment.SubmittedAt)} · {end.UtcDateTime.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture)} UTC" : "")
                + string.Concat(report.Labels.Select(label => $" · {label.Key}={label.Value}"))),
            new XElement("div", new XAttribute("class", good ? "verdict good" : "verdict bad"), verdict.Sentences.Select((sentence, i) => new XElement("p", i == 0 ? new XElement("strong", sentence) : sentence))),
        ];
    }

    private static XElement Section(string title, params object?[] content) => new("section", new XElement("h2", title), content);

    // Neither holds a character that markup would escape.
    private const string Style = Html.Style + """

        main, footer { max-width: 60rem; margin: 0 auto; padding: 1rem; }
        h1 { margin: 1rem 0 0; font-size: 1.8rem; overflow-wrap: anywhere; } h2 { margin: 2.2rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--rule); font-size: 1.25rem; } h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
        .verdict { border-left: .35rem solid var(--good); background: var(--panel); padding: .4rem 1rem; margin: 1rem 0; } .verdict.bad { border-color: var(--bad); } .verdict p { margin: .4rem 0; overflow-wrap: anywhere; }
        a { color: var(--accent); } figure { margin: 1rem 0; } figcaption { font-size: .9rem; margin-bottom: .4rem; } .charts figcaption { color: var(--soft); }
        @media print { body { font-size: 11px; } section { break-inside: avoid-page; } .slide { display: none !important; } .pair.over { display: flex; } .pair * { opacity: 1 !important; } .frames.one div { display: block; } }
        """;

    // Without it pictures stand beside or below each other.
    private const string Script = Html.Script + """

        slides(document);
        """;
}

/// <summary>How much of many trials a page tells, so that it can be mailed however many there are.</summary>
/// <param name="experiments">Experiments that share the page.</param>
internal sealed record ReportSize(int experiments)
{
    /// <summary>Rows of a table, by its columns.</summary>
    public int Rows(int columns) => Math.Clamp(36_000 / Math.Max(1, columns) / experiments, 20, 2000);

    /// <summary>Lines that nobody tells apart when there are more, by their points.</summary>
    public int Lines(int points) => Math.Clamp(12_000 / Math.Max(1, points) / experiments, 20, 300);

    /// <summary>Charts by a parameter.</summary>
    public int Parameters => Math.Max(4, 24 / experiments);

    /// <summary>Dots of a chart.</summary>
    public int Dots => Math.Max(60, 200 / experiments);
}
