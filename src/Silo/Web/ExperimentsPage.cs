using System.Globalization;
using System.Xml.Linq;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Silo.Web;

/// <summary>The list of experiments.</summary>
internal static class ExperimentsPage
{
    public static IResult Of(IReadOnlyList<ExperimentSummary> experiments, int skip, int size, bool more, string? find, string? state, TimeProvider time) => WebPage.Of("Experiments",
        // Of a filtered list everything is watched that was looked through.
        string.IsNullOrEmpty(find) && string.IsNullOrEmpty(state) ? WebPage.Address("/live/experiments", ("skip", skip > 0 ? skip.ToString(CultureInfo.InvariantCulture) : null)) : "/live/experiments?all=true",
        new XElement("h1", "Experiments"),
        new XElement("form", new XAttribute("method", "get"), new XAttribute("action", "/"), new XAttribute("role", "search"),
            new XElement("label", "Name, id or label", new XElement("input", new XAttribute("name", "find"), new XAttribute("type", "search"), new XAttribute("value", find ?? ""))),
            new XElement("label", "State", new XElement("select", new XAttribute("name", "state"), new XElement("option", new XAttribute("value", ""), "any"),
                new[] { RunState.Running, RunState.Paused, RunState.Succeeded, RunState.Failed, RunState.Cancelled }.Select(Words.State).Select(name => new XElement("option", new XAttribute("value", name), name == state ? new XAttribute("selected", "selected") : null, name)))),
            new XElement("button", "Filter")),
        WebPage.Part("list",
            experiments.Count == 0
                ? new XElement("p", string.IsNullOrEmpty(find) && string.IsNullOrEmpty(state) ? "None yet. Start one with 'adpm submit FILE'." : "None is like that.")
                : WebPage.Table("Experiments", ["experiment", "state", "trials ended", "submitted", "time"], experiments.Select(experiment => new object?[]
                {
                    new object?[] { WebPage.Link(WebPage.AddressOf(experiment.Id), experiment.Id), WebPage.Labels(experiment) }.OfType<object>(), WebPage.State(experiment.State), string.Create(CultureInfo.InvariantCulture, $"{experiment.TrialsEnded} of {experiment.Trials}"),
                    WebPage.Time(experiment.SubmittedAt), Words.Span((experiment.EndedAt ?? time.GetUtcNow()) - experiment.SubmittedAt),
                })),
            WebPage.Pages(skip, experiments.Count, size, more, null, "experiment", from => WebPage.Address("/", ("find", find), ("state", state), ("skip", from.ToString(CultureInfo.InvariantCulture))))));
}
