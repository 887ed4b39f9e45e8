using System.Text.RegularExpressions;
using AdjointDpm.Cluster.Tests.Servers;
using AdjointDpm.Grains.Telemetry;

namespace AdjointDpm.Cluster.Tests.Observability;

/// <summary>Dashboards, rules and the table of metrics say what the code says, and Prometheus' own tool agrees with them.</summary>
public sealed partial class GeneratedFileTests
{
    public static TheoryData<string> Files() => [.. GeneratedFiles.All().Select(file => file.Path)];

    /// <summary>With ADJOINTDPM_WRITE=1 it writes the files.</summary>
    [Theory]
    [MemberData(nameof(Files))]
    public void File_IsMadeFromTheCode(string path)
    {
        var text = GeneratedFiles.All().Single(file => file.Path == path).Text;
        var target = Path.Combine(Repository.Root, path);
        if (Environment.GetEnvironmentVariable("ADJOINTDPM_WRITE") == "1")
        {
            Directory.CreateDirectory(Path.GetDirectoryName(target)!);
            File.WriteAllText(target, text);
        }
        Assert.True(File.Exists(target) && File.ReadAllText(target).ReplaceLineEndings("\n") == text, $"{path} is not what the code says. ADJOINTDPM_WRITE=1 dotnet run --project tests/Cluster.Tests -c Release -- -class '*GeneratedFileTests' writes it.");
    }

    [Fact]
    public void Dashboards_AreAllMadeFromTheCode() =>
        Assert.Equal(Boards.All.Select(board => board.File + ".json").Order(), Directory.GetFiles(Path.Combine(Repository.Root, "deploy", "grafana", "dashboards")).Select(Path.GetFileName).Order());

    /// <summary>A metric that nobody can see need not be kept.</summary>
    [Fact]
    public void Metrics_AreAllShownOrAlertedOn()
    {
        var shown = string.Join('\n', Boards.All.SelectMany(board => board.Panels).SelectMany(panel => panel.Queries).Select(query => query.Expression)
            .Concat(Rules.Recordings.Select(rule => rule.Expression)).Concat(Rules.Alerts.Select(alert => alert.Expression)));
        Assert.Empty(AdjointDpmMetrics.All.Where(metric => !metric.SeriesNames.Any(name => Regex.IsMatch(shown, $@"\b{name}\b"))).Select(metric => metric.Name));
    }

    [Fact]
    public void Expressions_NameOnlyMetricsThatThereAre()
    {
        var known = AdjointDpmMetrics.All.SelectMany(metric => metric.SeriesNames).ToHashSet();
        var named = Boards.All.SelectMany(board => board.Panels).SelectMany(panel => panel.Queries).Select(query => query.Expression).Concat(Rules.Recordings.Select(rule => rule.Expression)).Concat(Rules.Alerts.Select(alert => alert.Expression))
            .SelectMany(expression => Name().Matches(expression)).Select(match => match.Value).Distinct().ToList();
        Assert.NotEmpty(named);
        Assert.All(named, name => Assert.Contains(name, known));
        // What rules use of other rules exists as well.
        var recorded = Rules.Recordings.Select(rule => rule.Name).ToHashSet();
        Assert.All(Rules.Recordings.Select(rule => rule.Expression).Concat(Rules.Alerts.Select(alert => alert.Expression)).SelectMany(expression => Recorded().Matches(expression)).Select(match => match.Value), name => Assert.Contains(name, recorded));
    }

    /// <summary>Names end as their units do, labels are few and none is open-ended, but for what ends with its trial.</summary>
    [Fact]
    public void Metrics_FollowTheRulesOfNames()
    {
        Assert.All(AdjointDpmMetrics.All, metric =>
        {
            Assert.Matches("^adjointdpm(_[a-z]+)+$", metric.PrometheusName);
            Assert.Equal(metric.Kind == MetricKind.Counter, metric.PrometheusName.EndsWith("_total", StringComparison.Ordinal));
            Assert.Equal(metric.Labels.Order(StringComparer.Ordinal), metric.Labels);
            Assert.EndsWith(".", metric.Help, StringComparison.Ordinal);
            Assert.True(metric.Kind == MetricKind.Gauge || !metric.Labels.Intersect(["trial", "experiment"]).Any(), metric.Name);
        });
        Assert.Equal(AdjointDpmMetrics.All.Count, AdjointDpmMetrics.All.Select(metric => metric.PrometheusName).Distinct().Count());
    }

    [Fact]
    public void Alerts_HaveARunbookEach()
    {
        var headings = File.ReadLines(Path.Combine(Repository.Root, GeneratedFiles.Page)).Where(line => line.StartsWith('#')).Select(line => line.TrimStart('#').Trim().ToLowerInvariant()).ToList();
        Assert.All(Rules.Alerts, alert => Assert.Single(headings, heading => heading == alert.Anchor));
    }

    [Fact]
    public async Task Rules_PassPrometheusOwnChecks_AndEveryAlertFiresAndIsQuietWhenItShould()
    {
        var packages = await DebianPackages.WithAsync("/usr/bin/promtool", "prometheus");
        var folder = Path.Combine(Repository.Root, "deploy", "prometheus");
        await packages.RunAsync("/usr/bin/promtool", "check", "rules", Path.Combine(Repository.Root, GeneratedFiles.RecordingsFile), Path.Combine(Repository.Root, GeneratedFiles.AlertsFile));
        // The token and the authority that it names are not in the repository.
        await packages.RunAsync("/usr/bin/promtool", "check", "config", "--syntax-only", Path.Combine(folder, "prometheus.yml"));
        await packages.RunAsync("/usr/bin/promtool", "test", "rules", Path.Combine(Repository.Root, GeneratedFiles.AlertTestsFile));
        var tests = await File.ReadAllTextAsync(Path.Combine(Repository.Root, GeneratedFiles.AlertTestsFile), TestContext.Current.CancellationToken);
        Assert.All(Rules.Alerts, alert => Assert.Equal(2, Regex.Count(tests, $@"name: {alert.Name} ")));
    }

    [GeneratedRegex(@"\badjointdpm_\w+")]
    private static partial Regex Name();

    [GeneratedRegex(@"\badjointdpm:[\w:]+")]
    private static partial Regex Recorded();
}
