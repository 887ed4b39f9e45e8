using System.Globalization;
using System.Text.RegularExpressions;
using AdjointDpm.Cluster.Tests.Servers;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Telemetry;

namespace AdjointDpm.Cluster.Tests.Observability;

/// <summary>Two silos, a sweep, and a Prometheus that scrapes them: what boards and rules ask for is there.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed partial class ScrapeTests(ITestOutputHelper output)
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
            Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Values = BoardPicture.Written ? ["0.0005", "0.001", "0.002", "0.004", "0.008", "0.016"] : ["0.001", "0.002"] } },
            Training = DigitsSpecs.Small.Training with { Steps = BoardPicture.Written ? 40 : 12 },
            HeldOut = DigitsSpecs.Small.HeldOut! with { Every = 3 },
            Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
            MaxConcurrentTrials = BoardPicture.Written ? 2 : 1,
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
        foreach (var board in Boards.All)
            BoardPicture.Save(board, await BoardPicture.DrawAsync(prometheus, board, from));
        var evaluated = (await prometheus.AskAsync("/api/v1/rules"))["groups"]!.AsArray().SelectMany(group => group!["rules"]!.AsArray()).ToList();
        Assert.Equal(Rules.Alerts.Count + Rules.Recordings.Count, evaluated.Count);
        Assert.All(evaluated, rule => Assert.Equal("ok", (string?)rule!["health"]));

        foreach (var silo in cluster.Silos)
            AssertIsDescribed(await silo.GetAsync("/metrics"));
    }

    /// <summary>What a Prometheus has to keep does not grow with what has been: <c>ADJOINTDPM_TRIALS</c> says how many trials that is shown by.</summary>
    [Fact]
    public async Task MoreTrials_LeaveNoMoreSeries_OnBothSilos()
    {
        const int AtOnce = 2;
        var trials = int.TryParse(Environment.GetEnvironmentVariable("ADJOINTDPM_TRIALS"), NumberStyles.None, CultureInfo.InvariantCulture, out var given) ? given : 16;
        await using var cluster = await RealCluster.StartAsync(2);
        var few = await SeriesAfterAsync("few", Math.Max(2, trials / 8));
        var many = await SeriesAfterAsync("many", trials);
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{few.Sum(silo => silo.Count)} series after {Math.Max(2, trials / 8)} trials, {many.Sum(silo => silo.Count)} after {trials} more, of {cluster.Silos.Count} silos"));
        // A silo that had none of the few trials gets those of the other only now.
        var known = few.SelectMany(silo => silo).ToHashSet();
        var more = many.SelectMany(silo => silo).Distinct().Where(series => !known.Contains(series)).ToList();
        Assert.True(more.Count <= 12, $"{more.Count} series more than before:\n{string.Join('\n', more)}");
        Assert.All(many, silo => Assert.InRange(silo.Count, 1, 1500));

        async Task<List<HashSet<string>>> SeriesAfterAsync(string name, int count)
        {
            await cluster.SubmitAsync(name, DigitsSpecs.Small with
            {
                Parameters = new Dictionary<string, ParameterSpec> { ["training.seed"] = new() { Values = [.. Enumerable.Range(1, count).Select(seed => seed.ToString(CultureInfo.InvariantCulture))] } },
                Gradient = new GradientSpec { Check = new ProofSpec { Mode = ProofMode.Off } },
                Training = new TrainingSpec { Steps = 1, Shards = 1, SamplesPerShard = 1 },
                HeldOut = null,
                MaxConcurrentTrials = AtOnce,
            });
            var perTrial = AdjointDpmMetrics.OfLiveTrials.Count() + 8;
            var snapshot = await cluster.WaitAsync(name, snapshot => snapshot.Trials.Any(trial => trial.State == RunState.Running) || snapshot.Summary.EndedAt is not null);
            while (snapshot.Summary.EndedAt is null)
            {
                foreach (var silo in cluster.Silos)
                    Assert.InRange((await LinesAsync(silo)).Count(line => line.Contains("trial=\"", StringComparison.Ordinal)), 0, perTrial * AtOnce);
                snapshot = (await cluster.WaitForAsync(name, snapshot => snapshot.Summary.EndedAt is not null, TimeSpan.FromSeconds(1))).Last!;
            }
            Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
            var series = new List<HashSet<string>>();
            foreach (var silo in cluster.Silos)
                await RealCluster.RetryAsync(async () =>
                {
                    var lines = await LinesAsync(silo);
                    Assert.DoesNotContain(lines, line => line.Contains("trial=\"", StringComparison.Ordinal) || line.Contains("experiment=\"", StringComparison.Ordinal));
                    series.Add([.. lines.Select(line => line[..line.LastIndexOf(' ')])]);
                });
            return series;
        }

        static async Task<List<string>> LinesAsync(SiloProcess silo) => [.. (await silo.GetAsync("/metrics")).Split('\n').Where(line => line.Length > 0 && line[0] != '#')];
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

    internal static string Filled(string expression) => expression.Replace("$__rate_interval", "20s", StringComparison.Ordinal).Replace("$experiment", ".*", StringComparison.Ordinal);

    [GeneratedRegex(@"\b(adjointdpm|orleans|dotnet)_\w+|\bup\b")]
    private static partial Regex Series();

    [GeneratedRegex("""^(?<name>\w+)\{((?<label>\w+)="[^"]*",?)*\} (?<value>\S+)$""")]
    private static partial Regex Line();
}
