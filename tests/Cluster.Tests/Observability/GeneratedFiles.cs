using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using AdjointDpm.Grains.Telemetry;

namespace AdjointDpm.Cluster.Tests.Observability;

/// <summary>Everything in deploy/ and docs/ that names metrics, made from <see cref="AdjointDpmMetrics"/>, <see cref="Boards"/> and <see cref="Rules"/>.</summary>
internal static class GeneratedFiles
{
    private const string Runbooks = "docs/operations.md#";
    private const string Origin = "# Made from tests/Cluster.Tests/Observability/Rules.cs: ADJOINTDPM_WRITE=1 dotnet run --project tests/Cluster.Tests -c Release -- -class '*GeneratedFileTests'\n";

    /// <summary>Path from the repository's root, and contents.</summary>
    public static IEnumerable<(string Path, string Text)> All()
    {
        foreach (var board in Boards.All)
            yield return ($"deploy/grafana/dashboards/{board.File}.json", Json(board));
        yield return (RecordingsFile, RecordingRules());
        yield return (AlertsFile, AlertRules());
        yield return (AlertTestsFile, AlertTests());
        yield return (Page, PageWithMetrics());
    }

    public const string RecordingsFile = "deploy/prometheus/rules/recording.yml";
    public const string AlertsFile = "deploy/prometheus/rules/alerts.yml";
    public const string AlertTestsFile = "deploy/prometheus/tests/alerts.test.yml";

    public const string Page = "docs/operations.md";

    /// <summary>The page as it is, with the table of metrics as it should be.</summary>
    private static string PageWithMetrics()
    {
        const string Begin = "<!-- metrics -->\n", End = "<!-- /metrics -->\n";
        var page = File.ReadAllText(Path.Combine(Repository.Root, Page)).ReplaceLineEndings("\n");
        var (from, to) = (page.IndexOf(Begin, StringComparison.Ordinal), page.IndexOf(End, StringComparison.Ordinal));
        Assert.True(from >= 0 && to > from, $"{Page} has no lines '{Begin.Trim()}' and '{End.Trim()}' for the table of metrics.");
        return page[..(from + Begin.Length)] + MetricTable() + page[to..];
    }

    private static string MetricTable()
    {
        var text = new StringBuilder("| metric | labels | |\n|---|---|---|\n");
        foreach (var metric in AdjointDpmMetrics.All)
            text.Append(System.Globalization.CultureInfo.InvariantCulture, $"| `{metric.PrometheusName}` | {string.Join(", ", metric.Labels.Select(label => $"`{label}`"))} | {metric.Help}{(metric.EmptyWithout is { } needs ? $" Only of {needs}." : "")} |\n");
        return text.ToString();
    }

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static string Json(Board board)
    {
        var datasource = new JsonObject { ["type"] = "prometheus", ["uid"] = "${datasource}" };
        var panels = new JsonArray();
        for (var i = 0; i < board.Panels.Length; i++)
        {
            var panel = board.Panels[i];
            panels.Add(new JsonObject
            {
                ["id"] = i + 1,
                ["title"] = panel.Title,
                ["description"] = panel.Description,
                ["type"] = panel.Type,
                ["datasource"] = datasource.DeepClone(),
                ["gridPos"] = new JsonObject { ["h"] = 8, ["w"] = 8, ["x"] = i % 3 * 8, ["y"] = i / 3 * 8 },
                ["fieldConfig"] = new JsonObject { ["defaults"] = new JsonObject { ["unit"] = panel.Unit }, ["overrides"] = new JsonArray() },
                ["options"] = panel.Type == "timeseries" ? new JsonObject { ["legend"] = new JsonObject { ["displayMode"] = "list", ["placement"] = "bottom", ["showLegend"] = true }, ["tooltip"] = new JsonObject { ["mode"] = "multi" } } : [],
                ["targets"] = new JsonArray([.. panel.Queries.Select((query, j) => new JsonObject
                {
                    ["refId"] = ((char)('A' + j)).ToString(),
                    ["expr"] = query.Expression,
                    ["legendFormat"] = query.Legend,
                    ["format"] = panel.Type == "heatmap" ? "heatmap" : "time_series",
                    ["datasource"] = datasource.DeepClone(),
                })]),
            });
        }
        var variables = new JsonArray(new JsonObject { ["name"] = "datasource", ["label"] = "Prometheus", ["type"] = "datasource", ["query"] = "prometheus" });
        if (board.Panels.Any(panel => panel.Queries.Any(query => query.Expression.Contains("$experiment", StringComparison.Ordinal))))
            variables.Add(new JsonObject
            {
                ["name"] = "experiment", ["label"] = "Experiment", ["type"] = "query", ["datasource"] = datasource.DeepClone(),
                ["query"] = $"label_values({AdjointDpmMetrics.ExperimentTrials.PrometheusName}, experiment)", ["refresh"] = 2, ["includeAll"] = true, ["multi"] = true, ["allValue"] = ".*",
                ["current"] = new JsonObject { ["text"] = "All", ["value"] = "$__all" },
            });
        return new JsonObject
        {
            ["uid"] = board.File,
            ["title"] = board.Title,
            ["tags"] = new JsonArray("adjointdpm"),
            ["schemaVersion"] = 39,
            ["editable"] = false,
            ["refresh"] = "10s",
            ["time"] = new JsonObject { ["from"] = "now-1h", ["to"] = "now" },
            ["templating"] = new JsonObject { ["list"] = variables },
            ["annotations"] = new JsonObject
            {
                ["list"] = new JsonArray(new JsonObject
                {
                    ["name"] = "Coordinator recovered", ["enable"] = true, ["iconColor"] = "red", ["datasource"] = datasource.DeepClone(),
                    ["expr"] = $"sum by (instance) (increase({AdjointDpmMetrics.Recoveries.PrometheusName}[1m])) > 0", ["titleFormat"] = "Coordinator recovered on {{instance}}",
                }),
            },
            ["panels"] = panels,
        }.ToJsonString(Indented) + "\n";
    }

    private static string RecordingRules()
    {
        var text = new StringBuilder(Origin).Append("groups:\n  - name: adjointdpm-recording\n    rules:\n");
        foreach (var rule in Rules.Recordings)
            text.Append("      - record: ").Append(rule.Name).Append("\n        expr: ").Append(Quoted(rule.Expression)).Append('\n');
        return text.ToString();
    }

    private static string AlertRules()
    {
        var text = new StringBuilder(Origin).Append("groups:\n  - name: adjointdpm-alerts\n    rules:\n");
        foreach (var alert in Rules.Alerts)
            text.Append("      - alert: ").Append(alert.Name).Append("\n        expr: ").Append(Quoted(alert.Expression)).Append("\n        for: ").Append(alert.For)
                .Append("\n        labels: {severity: ").Append(alert.Severity).Append("}\n        annotations:\n          summary: ").Append(Quoted(alert.Summary))
                .Append("\n          runbook: ").Append(Runbooks).Append(alert.Anchor).Append('\n');
        return text.ToString();
    }

    /// <summary>Each alert on series that it must fire on, and on such that it must not.</summary>
    private static string AlertTests()
    {
        var text = new StringBuilder(Origin).Append("rule_files: [../rules/recording.yml, ../rules/alerts.yml]\nevaluation_interval: 1m\ntests:\n");
        foreach (var alert in Rules.Alerts)
            foreach (var fires in new[] { true, false })
            {
                text.Append("  - name: ").Append(alert.Name).Append(fires ? " fires" : " is quiet").Append("\n    interval: 1m\n    input_series:\n");
                foreach (var (series, values) in fires ? alert.Firing : alert.Quiet)
                    text.Append("      - {series: ").Append(Quoted(series)).Append(", values: ").Append(Quoted(values)).Append("}\n");
                // How many alerts there are of the name, and in which state: labels and words are not repeated here.
                text.Append("    promql_expr_test:\n      - expr: count(ALERTS{alertname=\"").Append(alert.Name).Append("\",alertstate=\"firing\"}) or vector(0)\n        eval_time: 1h\n        exp_samples: [{labels: \"{}\", value: ").Append(fires ? 1 : 0).Append("}]\n");
            }
        foreach (var (name, leased, waiting, work) in Rules.Scaling)
        {
            text.Append("  - name: ").Append(name).Append("\n    interval: 1m\n    input_series:\n");
            foreach (var (series, value) in new[] { (AdjointDpmMetrics.Leases.PrometheusName + "{instance=\"a\"}", leased), (AdjointDpmMetrics.Leases.PrometheusName + "{instance=\"b\"}", 0), (AdjointDpmMetrics.QueueDepth.PrometheusName + "{instance=\"a\",queue=\"shards\"}", waiting), (AdjointDpmMetrics.QueueDepth.PrometheusName + "{instance=\"a\",queue=\"trials\"}", 9) })
                text.Append("      - {series: ").Append(Quoted(series)).Append(", values: '").Append(value).Append("x120'}\n");
            text.Append("    promql_expr_test:\n      - expr: ").Append(Rules.WorkShards).Append("\n        eval_time: 1h\n        exp_samples: [{labels: '").Append(Rules.WorkShards).Append("', value: ").Append(work).Append("}]\n");
        }
        return text.ToString();
    }

    private static string Quoted(string text) => "'" + text.Replace("'", "''", StringComparison.Ordinal) + "'";
}
