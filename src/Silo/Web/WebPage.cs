using System.Globalization;
using System.Xml.Linq;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Silo.Web;

/// <summary>What all pages of the silo have in common.</summary>
internal static class WebPage
{
    /// <summary>A page.</summary>
    /// <param name="title">What it is about.</param>
    /// <param name="live">Address that tells when it has changed; null when it does not.</param>
    /// <param name="content">Between head and foot.</param>
    public static IResult Of(string title, string? live, params object?[] content) => Of(StatusCodes.Status200OK, title, live, content);

    /// <summary>A page that says what is wrong.</summary>
    public static IResult Problem(int status, string title, string message) => Of(status, title, null, new XElement("h1", title), new XElement("p", message), new XElement("p", Link("/", "All experiments")));

    public static IResult NotFound(string message) => Problem(StatusCodes.Status404NotFound, "Not found", message);

    public static XAttribute Class(string name) => new("class", name);

    public static XElement Link(string address, object text) => new("a", new XAttribute("href", address), text);

    /// <summary>Part of a page that is put in anew when it has changed.</summary>
    public static XElement Part(string id, params object?[]? content) => new("section", new XAttribute("id", id), new XAttribute("data-part", ""), content);

    public static XElement State(RunState state) => new("span", Class($"state {Words.State(state)}"), Words.State(state));

    public static XElement Time(DateTimeOffset time) => new("time", new XAttribute("datetime", time.UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ssZ", CultureInfo.InvariantCulture)), time.UtcDateTime.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture) + " UTC");

    /// <summary>Where this page is.</summary>
    public static XElement Crumbs(params XElement[] links) => new("nav", Class("crumbs"), new XAttribute("aria-label", "Where this page is"), links.SelectMany((link, i) => i == 0 ? new object[] { link } : [" / ", link]));

    /// <summary>Name and value, side by side.</summary>
    public static XElement Facts(params (string Name, object? Value)[] facts) => new("dl", Class("facts"), facts.Where(fact => fact.Value is not null and not "").Select(fact => new XElement("div", new XElement("dt", fact.Name), new XElement("dd", fact.Value))));

    /// <summary>Links to the pages before and after this one.</summary>
    public static XElement Pages(int skip, int shown, int size, bool more, int? all, string noun, Func<int, string> address) => new("p", Class("pages"),
        new XElement("span", shown == 0 ? $"No {noun}s." : string.Create(CultureInfo.InvariantCulture, $"{noun}s {skip + 1}–{skip + shown}{(all is { } count ? $" of {count}" : "")}")),
        skip > 0 ? new XElement("a", new XAttribute("href", address(Math.Max(0, skip - size))), new XAttribute("rel", "prev"), "← previous") : null,
        more ? new XElement("a", new XAttribute("href", address(skip + size)), new XAttribute("rel", "next"), "next →") : null);

    /// <summary>A table that scrolls in itself, with the keyboard too.</summary>
    public static XElement Table(string name, IReadOnlyList<object> titles, IEnumerable<object?[]> rows)
    {
        var table = Html.Table(titles, rows);
        table.Add(new XAttribute("tabindex", "0"), new XAttribute("role", "region"), new XAttribute("aria-label", name));
        return table;
    }

    /// <summary>An address with a query, of which empty values are left out.</summary>
    public static string Address(string path, params (string Name, string? Value)[] query) =>
        path + QueryString.Create(query.Where(one => !string.IsNullOrEmpty(one.Value)).Select(one => new KeyValuePair<string, string?>(one.Name, one.Value)));

    /// <summary>Labels, each a link to the experiments that have it; null where there are none.</summary>
    public static XElement? Labels(ExperimentSummary experiment) => experiment.Labels is not { Count: > 0 } labels ? null
        : new XElement("span", Class("labels"), labels.OrderBy(label => label.Key, StringComparer.Ordinal).SelectMany(label => new object[] { " ", Link(Address("/", ("find", $"{label.Key}={label.Value}")), $"{label.Key}={label.Value}") }));

    /// <summary>Where a browser hears of an experiment's news; also of one that has ended, which may be tried again.</summary>
    public static string Live(ExperimentSnapshot experiment) => string.Create(CultureInfo.InvariantCulture, $"/live{AddressOf(experiment.Summary.Id)}?after={experiment.Sequence}");

    public static string AddressOf(string experiment) => $"/experiments/{experiment}";

    public static string AddressOf(string experiment, int trial) => string.Create(CultureInfo.InvariantCulture, $"/experiments/{experiment}/trials/{trial}");

    private static IResult Of(int status, string title, string? live, params object?[] content)
    {
        var page = new XElement("html", new XAttribute("lang", "en"),
            new XElement("head",
                new XElement("meta", new XAttribute("charset", "utf-8")),
                new XElement("meta", new XAttribute("name", "viewport"), new XAttribute("content", "width=device-width, initial-scale=1")),
                new XElement("meta", new XAttribute("name", "color-scheme"), new XAttribute("content", "light dark")),
                new XElement("title", $"{title} – AdjointDpm"),
                new XElement("link", new XAttribute("rel", "icon"), new XAttribute("href", "data:,")),
                new XElement("link", new XAttribute("rel", "stylesheet"), new XAttribute("href", "/web/site.css"))),
            new XElement("body", live is null ? null : new XAttribute("data-live", live),
                new XElement("a", Class("skip"), new XAttribute("href", "#content"), "To the content"),
                new XElement("header",
                    new XElement("a", Class("brand"), new XAttribute("href", "/"), "AdjointDpm"),
                    new XElement("nav", new XAttribute("aria-label", "Pages"), Link("/", "Experiments"), Link("/workers", "Workers"), Link("/metrics", "Metrics"), Link("/health/ready", "Health")),
                    live is null ? null : new XElement("span", Class("live off"), new XAttribute("role", "status"), "as loaded")),
                new XElement("main", new XAttribute("id", "content"), content),
                new XElement("script", new XAttribute("src", "/web/site.js"), new XAttribute("defer", "defer"))));
        return Results.Content(Html.Text(page), "text/html; charset=utf-8", statusCode: status);
    }
}
