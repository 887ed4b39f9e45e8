using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using AdjointDpm.Cluster.Tests.Servers;
using AdjointDpm.Grains.Pages;

namespace AdjointDpm.Cluster.Tests.Observability;

/// <summary>
/// A board as a picture: what its queries gave, drawn by the charts of the pages. With <c>ADJOINTDPM_WRITE=1</c> the sweep is a longer one, and
/// docs/images gets them.
/// </summary>
internal static partial class BoardPicture
{
    private const double Width = 400, Height = 250, Columns = 3, Head = 50, Legend = 12;
    private const int MostNames = 4;
    private static readonly XNamespace Svg = "http://www.w3.org/2000/svg";
    private static readonly string[] Colours = ["#2a78c2", "#d1552d", "#3a9b5c", "#8b5fbf", "#b8860b", "#c2417c", "#4f8f8f", "#7a7a7a"];

    public static bool Written { get; } = Environment.GetEnvironmentVariable("ADJOINTDPM_WRITE") == "1";

    /// <summary>Asks for all panels and draws them, three to a row.</summary>
    public static async Task<XElement> DrawAsync(PrometheusServer prometheus, Board board, DateTimeOffset from)
    {
        var panels = new List<XElement>();
        for (var i = 0; i < board.Panels.Length; i++)
        {
            var panel = await PanelAsync(prometheus, board.Panels[i], from);
            var (column, row) = (i % (int)Columns, i / (int)Columns);
            panels.Add(new XElement("g", new XAttribute("transform", FormattableString.Invariant($"translate({column * Width:0},{Head + row * Height:0})")), panel));
        }
        var rows = (board.Panels.Length + (int)Columns - 1) / (int)Columns;
        var picture = new XElement("svg", new XAttribute("viewBox", FormattableString.Invariant($"0 0 {Columns * Width:0} {Head + rows * Height:0}")), new XAttribute("role", "img"), new XAttribute("aria-label", board.Title),
            new XElement("style", Style),
            new XElement("rect", new XAttribute("class", "paper"), new XAttribute("width", "100%"), new XAttribute("height", "100%")),
            new XElement("text", new XAttribute("class", "head"), new XAttribute("x", 16), new XAttribute("y", 32), board.Title),
            panels);
        foreach (var element in picture.DescendantsAndSelf())
            element.Name = Svg + element.Name.LocalName;
        return picture;
    }

    public static void Save(Board board, XElement picture)
    {
        if (Written)
            File.WriteAllText(Path.Combine(Repository.Root, "docs", "images", board.File.Replace("adjointdpm", "board", StringComparison.Ordinal) + ".svg"), picture.ToString() + "\n");
    }

    private static async Task<object[]> PanelAsync(PrometheusServer prometheus, Panel panel, DateTimeOffset from)
    {
        var lines = new List<ChartLine>();
        // Grafana writes large numbers with their prefix; here their unit has it.
        var (unit, scale) = panel.Unit is "bytes" or "Bps" ? ("M" + panel.Unit, 1e6) : panel.Unit is "percentunit" ? ("%", 0.01) : (panel.Unit, 1);
        foreach (var query in panel.Queries)
            foreach (var series in await prometheus.RangeAsync(ScrapeTests.Filled(query.Expression), from))
                lines.Add(new ChartLine(Name(query.Legend, series!["metric"]!), [.. series["values"]!.AsArray().Select(value => ((double)value![0]! - from.ToUnixTimeSeconds(), double.Parse((string)value[1]!, CultureInfo.InvariantCulture) / scale))], Best: false));
        Assert.True(lines.Count > 0 || panel.Queries.All(query => query.EmptyWithout is not null), $"{panel.Title} has no data.");
        var title = new XElement("text", new XAttribute("class", "title"), new XAttribute("x", 16), new XAttribute("y", 14), panel.Unit is "short" ? panel.Title : $"{panel.Title} ({unit})");
        if (lines.Count == 0)
            return [title, new XElement("text", new XAttribute("class", "label"), new XAttribute("x", 40), new XAttribute("y", Height / 2), $"Nothing here: no {panel.Queries[0].EmptyWithout!.Split(' ')[^1]}.")];
        var chart = Chart.Lines(panel.Title, "seconds", lines, []);
        foreach (var (attribute, value) in new (string, double)[] { ("x", 0), ("y", 20), ("width", Width - 16), ("height", Height - 80) })
            chart.SetAttributeValue(attribute, value.ToString("0", CultureInfo.InvariantCulture));
        var drawn = chart.Elements("polyline").ToList();
        Assert.Equal(lines.Count, drawn.Count);
        for (var i = 0; i < drawn.Count; i++)
            drawn[i].SetAttributeValue("style", $"stroke:{Colours[i % Colours.Length]}");
        var names = lines.Select((line, i) => (line.Name, Colour: Colours[i % Colours.Length])).Take(MostNames).Append((lines.Count > MostNames ? $"and {lines.Count - MostNames} more" : "", "currentColor")).Where(name => name.Item1.Length > 0);
        return [title, chart, .. names.Select((name, i) => new XElement("text", new XAttribute("class", "name"), new XAttribute("x", 24 + i % 2 * (Width / 2 - 12)), new XAttribute("y", Height - 46 + i / 2 * Legend), new XAttribute("style", $"fill:{name.Item2}"), name.Item1.Length > 34 ? name.Item1[..33] + "…" : name.Item1))];
    }

    /// <summary>As Grafana fills a legend in.</summary>
    private static string Name(string legend, JsonNode labels) => Label().Replace(legend, match => (string?)labels[match.Groups[1].Value] ?? "");

    private const string Style = """
        text{font:13px Helvetica,Arial,sans-serif;fill:#333}.head{font-size:22px;font-weight:bold}.title{font-weight:bold}.name{font-size:11px}.tick,.label{font-size:20px}
        .paper{fill:#fff}.grid{stroke:#e3e3e3;fill:none}.axis{stroke:#999;fill:none}.line{fill:none;stroke-width:3}
        @media (prefers-color-scheme:dark){text{fill:#ccc}.paper{fill:#1b1d21}.grid{stroke:#34373d}}
        """;

    [GeneratedRegex(@"\{\{(\w+)\}\}")]
    private static partial Regex Label();
}
