using System.Globalization;
using System.Text.RegularExpressions;
using AdjointDpm.Cluster.Tests.Servers;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Telemetry;

namespace AdjointDpm.Cluster.Tests.Observability;

/// <summary>Two silos, a sweep, and a Prometheus that scrapes them: what boards and rules ask for is there.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed partial class ScrapeTests
{
    /// <summary>Series of Orleans that are there from the first such event on.</summary>
    private static readonly string[] AfterTheFirst = ["orleans_app_requests_timedout_total"];

    [Fact]
    public async Task Sweep_GivesDataToEveryPanelAndRule_AndLeavesNoTrialBehind()
    {
        await using var cluster = await RealCluster.StartAsync(2);
        var from = TimeProvider.System.GetUtcNow();
        await using var prometheus = await PrometheusServer.StartAsync(cluster.Silos.Select(silo => silo.Ready.HttpPort));
        // Prometheus takes its time to begin; a sweep is soon over.
        await RealCluster.RetryAsync(async () => Assert.Equal(cluster.Silos.Count, (await prometheus.RangeAsync("up == 1", from)).Count));
        var spec = DigitsSpecs.Small with
        {
            Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Values = ["0.001", "0.002"] } },
            Training = DigitsSpecs.Small.Training with { Steps = 12 },
            HeldOut = DigitsSpecs.Small.HeldOut! with { Every = 3 },
            Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
            MaxConcurrentTrials = 1,
        };
        var snapshot = await cluster.RunAsync("sweep", spec);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);

        // Until the last scrape has seen the end, and the slowest rule what came before it.
        await RealCluster.RetryAsync(async () => Assert.Empty((await prometheus.RangeAsync(AdjointDpmMetrics.TrialStep.PrometheusName, TimeProvider.System.GetUtcNow())).Select(series => series!.ToJsonString())));
        var targets = (await prometheus.AskAsync("/api/v1/targets"))["activeTargets"]!.AsArray();
        Assert.All(targets, target => Assert.Equal("", (string?)target!["lastError"]));
        // On a busy machine an answer can take longer than the second that Prometheus waits.
        Assert.Empty((await prometheus.RangeAsync("avg_over_time(up[10m]) < 0.8", TimeProvider.System.GetUtcNow())).Select(series => series!.ToJsonString()));
        await RealCluster.RetryAsync(async () => Assert.Empty(await EmptyAsync(prometheus, from)));
        var evaluated = (await prometheus.AskAsync("/api/v1/rules"))["groups"]!.AsArray().SelectMany(group => group!["rules"]!.AsArray()).ToList();
        Assert.Equal(Rules.Alerts.Count + Rules.Recordings.Count, evaluated.Count);
        Assert.All(evaluated, rule => Assert.Equal("ok", (string?)rule!["health"]));

        foreach (var silo in cluster.Silos)
            AssertIsDescribed(await silo.GetAsync("/metrics"));
    }

    /// <summary>What boards and rules ask for and has no data.</summary>
    private static async Task<List<string>> EmptyAsync(PrometheusServer prometheus, DateTimeOffset from)
    {
        var empty = new List<string>();
        foreach (var (place, query) in Boards.All.SelectMany(board => board.Panels.SelectMany(panel => panel.Queries.Select(query => ($"{board.Title}: {panel.Title}", query)))))
            if (query.EmptyWithout is null && (await prometheus.RangeAsync(Filled(query.Expression), from)).Count == 0)
                empty.Add($"{place}: {query.Expression}");
        foreach (var rule in Rules.Recordings)
            if ((await prometheus.RangeAsync(rule.Name, from)).Count == 0)
                empty.Add($"{rule.Name} = {rule.Expression}");
        foreach (var name in Rules.Alerts.SelectMany(alert => Series().Matches(alert.Expression)).Select(match => match.Value).Distinct().Except(AfterTheFirst))
            if (AdjointDpmMetrics.All.FirstOrDefault(metric => metric.SeriesNames.Contains(name)) is not { EmptyWithout: not null } && (await prometheus.RangeAsync(name, from)).Count == 0)
                empty.Add($"An alert's series: {name}");
        return empty;
    }

    /// <summary>Every line of ours is a metric of the table, of its kind and with its labels; no trial is named any more.</summary>
    private static void AssertIsDescribed(string scrape)
    {
        var series = AdjointDpmMetrics.All.SelectMany(metric => metric.SeriesNames.Select(name => (name, metric))).ToDictionary(pair => pair.name, pair => pair.metric);
        foreach (var line in scrape.Split('\n').Where(line => line.StartsWith("adjointdpm_", StringComparison.Ordinal)))
        {
            var match = Line().Match(line);
            Assert.True(match.Success, line);
            Assert.True(series.TryGetValue(match.Groups["name"].Value, out var metric), line);
            var labels = match.Groups["label"].Captures.Select(label => label.Value).Where(label => label is not ("otel_scope_name" or "le")).Order(StringComparer.Ordinal);
            Assert.Equal(metric.Labels, labels);
            Assert.DoesNotContain("trial", labels);
            Assert.True(double.TryParse(match.Groups["value"].Value, NumberStyles.Float, CultureInfo.InvariantCulture, out _), line);
        }
        foreach (var metric in AdjointDpmMetrics.All.Where(metric => metric is { EmptyWithout: null, Kind: not MetricKind.Histogram }))
            Assert.Contains($"# TYPE {metric.PrometheusName} {(metric.Kind == MetricKind.Counter ? "counter" : "gauge")}\n", scrape, StringComparison.Ordinal);
    }

    private static string Filled(string expression) => expression.Replace("$__rate_interval", "20s", StringComparison.Ordinal).Replace("$experiment", ".*", StringComparison.Ordinal);

    [GeneratedRegex(@"\b(adjointdpm|orleans|dotnet)_\w+|\bup\b")]
    private static partial Regex Series();

    [GeneratedRegex("""^(?<name>\w+)\{((?<label>\w+)="[^"]*",?)*\} (?<value>\S+)$""")]
    private static partial Regex Line();
}
