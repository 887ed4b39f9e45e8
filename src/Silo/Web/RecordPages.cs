using System.Globalization;
using System.Xml.Linq;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Workers;
using AdjointDpm.Silo.Security;

namespace AdjointDpm.Silo.Web;

/// <summary>Events, audits and workers, as tables.</summary>
internal static class RecordPages
{
    public static IResult Events(ExperimentSnapshot experiment, IReadOnlyList<ExperimentEvent> events, int? trial, int skip, int size, bool more)
    {
        var (id, path) = (experiment.Summary.Id, WebPage.AddressOf(experiment.Summary.Id) + "/events");
        return WebPage.Of($"Events of {id}", WebPage.Live(experiment),
            WebPage.Crumbs(WebPage.Link("/", "Experiments"), WebPage.Link(WebPage.AddressOf(id), id), WebPage.Link(path, "events")),
            new XElement("h1", trial is null ? "Events" : $"Events of trial {trial}"),
            WebPage.Part("events",
                WebPage.Table("Events, the newest first", ["number", "time", "trial", "kind", "what happened"], events.Select(happened => new object?[]
                {
                    happened.Sequence, new XElement("time", new XAttribute("datetime", happened.Time.UtcDateTime.ToString("o", CultureInfo.InvariantCulture)), happened.Time.UtcDateTime.ToString("MM-dd HH:mm:ss", CultureInfo.InvariantCulture)),
                    happened.Trial is { } of ? WebPage.Link(WebPage.AddressOf(id, of), of) : "", happened.Kind.ToString(), happened.Message,
                })),
                WebPage.Pages(skip, events.Count, size, more, null, "event", from => WebPage.Address(path, ("trial", trial?.ToString(CultureInfo.InvariantCulture)), ("skip", from.ToString(CultureInfo.InvariantCulture))))));
    }

    public static IResult Audit(ExperimentSnapshot experiment, IReadOnlyList<TrialAudit> audits, int skip, int size)
    {
        var (id, path) = (experiment.Summary.Id, WebPage.AddressOf(experiment.Summary.Id) + "/audit");
        var broken = audits.Count(audit => !audit.Holds);
        return WebPage.Of($"Audit of {id}", WebPage.Live(experiment),
            WebPage.Crumbs(WebPage.Link("/", "Experiments"), WebPage.Link(WebPage.AddressOf(id), id), WebPage.Link(path, "audit")),
            new XElement("h1", "Audit"),
            new XElement("p", "From the ledger of each trial: whether every shard of every step counted exactly once, and nothing was changed afterwards. Without this page: ", new XElement("code", $"adpm audit {id}"), "."),
            WebPage.Part("audit",
                new XElement("p", new XElement("strong", WebPage.Class(broken == 0 ? "state succeeded" : "state failed"), audits.Count == 0 ? "No trial here." : broken == 0 ? $"The ledgers of these {Words.Count(audits.Count, "trial")} hold." : $"{broken} of {audits.Count} do NOT hold."),
                    " ", audits.Sum(audit => audit.Accepted).ToString("n0", CultureInfo.InvariantCulture), " contributions counted."),
                WebPage.Table("Audit by trial", ["trial", "holds", "steps", "counted", "came again", "stale", "wrong", "coordinators", "newest record"], audits.Select(audit => new object?[]
                {
                    WebPage.Link(WebPage.AddressOf(id, IndexOf(audit)), IndexOf(audit)),
                    new XElement("span", WebPage.Class(audit.Holds ? "state succeeded" : "state failed"), audit.Steps == 0 && audit.Head.Length == 0 ? "not begun" : audit.Holds ? "yes" : "NO: " + audit.Violations[0]),
                    string.Create(CultureInfo.InvariantCulture, $"{audit.Steps} of {audit.StepsPlanned}"), audit.Accepted, audit.Duplicates, audit.Stale, audit.Mismatches, audit.Coordinators, new XElement("code", audit.Head.Length > 16 ? audit.Head[..16] : audit.Head),
                })),
                WebPage.Pages(skip, audits.Count, size, skip + audits.Count < experiment.Summary.Trials, experiment.Summary.Trials, "trial", from => string.Create(CultureInfo.InvariantCulture, $"{path}?skip={from}"))));
    }

    public static IResult Workers(IReadOnlyList<WorkerDescription> workers, bool dashboard) => WebPage.Of("Workers", "/live/workers",
        new XElement("h1", "Workers"),
        WebPage.Part("workers",
            workers.Count == 0 ? new XElement("p", "None.") : WebPage.Table("Workers", ["worker", "state", "done", "work", "last failure"], workers.Select(worker => new object?[]
            {
                worker.Name, worker.State.ToString().ToLowerInvariant() + (worker.Cordoned && worker.State is WorkerState.Silent or WorkerState.Absent ? ", cordoned" : ""), worker.ShardsDone,
                worker.Work.Take(4).SelectMany((work, i) => new object[] { i == 0 ? "" : ", ", Work(work) }).Concat(worker.Work.Count > 4 ? [$", {worker.Work.Count - 4} more"] : []).ToArray(),
                worker.LastFailure is { } failure ? new object[] { worker.LastFailureAt is { } at ? WebPage.Time(at) : "", " " + failure } : "",
            }))),
        new XElement("p", "One is taken out of use by ", new XElement("code", "adpm workers cordon NAME"), ". Numbers over time: ", WebPage.Link("/metrics", "metrics"), " for Prometheus.",
            dashboard ? new object[] { " Silos and grains, for operators: ", WebPage.Link(HttpAccess.Dashboard + "/", "Orleans' dashboard"), "." } : null));

    private static object Work(WorkInHand work)
    {
        var text = string.Create(CultureInfo.InvariantCulture, $"{work.Run} {work.Kind}{(work.Kind == "gradient" ? $" step {work.Step} shard {work.Shard}" : "")}");
        var at = work.Run.LastIndexOf('/');
        return at > 0 && int.TryParse(work.Run[(at + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out var trial) ? WebPage.Link(WebPage.AddressOf(work.Run[..at], trial), text) : text;
    }

    private static int IndexOf(TrialAudit audit) => int.Parse(audit.Run[(audit.Run.LastIndexOf('/') + 1)..], CultureInfo.InvariantCulture);
}
