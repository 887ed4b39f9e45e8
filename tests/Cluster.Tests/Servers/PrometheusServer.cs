using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;

namespace AdjointDpm.Cluster.Tests.Servers;

/// <summary>Prometheus with the rules of deploy/prometheus, scraping silos every second.</summary>
internal sealed class PrometheusServer : StorageServer
{
    private const string Program = "/usr/bin/prometheus";
    private readonly DebianPackages _packages;
    private readonly HttpClient _http;

    private PrometheusServer(DebianPackages packages)
    {
        _packages = packages;
        _http = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{PortText}") };
    }

    public override string[] SiloSettings => [];

    public static Task<PrometheusServer> StartAsync(IEnumerable<int> ports) => StartByAsync(string.Create(CultureInfo.InvariantCulture, $$"""
            global: {scrape_interval: 1s, evaluation_interval: 1s}
            rule_files: ["{{Path.Combine(Repository.Root, "deploy", "prometheus", "rules")}}/*.yml"]
            scrape_configs:
              - job_name: adjointdpm
                static_configs: [{targets: [{{string.Join(", ", ports.Select(port => $"'127.0.0.1:{port}'"))}}]}]
            """));

    /// <summary>Starts it with a configuration of one's own.</summary>
    public static async Task<PrometheusServer> StartByAsync(string configuration)
    {
        var server = new PrometheusServer(await DebianPackages.WithAsync(Program, "prometheus"));
        await File.WriteAllTextAsync(Path.Combine(server.Folder, "prometheus.yml"), configuration, TestContext.Current.CancellationToken);
        await server.StartAsync();
        return server;
    }

    protected override Process Run() => _packages.Start(Program, unprivileged: false, $"--config.file={Folder}/prometheus.yml", $"--storage.tsdb.path={Folder}/data", $"--web.listen-address=127.0.0.1:{PortText}", "--log.level=warn");

    protected override async Task<bool> AnswersAsync()
    {
        try
        {
            return (await _http.GetAsync(new Uri("/-/ready", UriKind.Relative), TestContext.Current.CancellationToken)).IsSuccessStatusCode;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }

    /// <summary>Series of an expression over the last minutes, second by second.</summary>
    public async Task<JsonArray> RangeAsync(string expression, DateTimeOffset from)
    {
        var now = TimeProvider.System.GetUtcNow();
        return (await AskAsync($"/api/v1/query_range?query={Uri.EscapeDataString(expression)}&start={from.ToUnixTimeSeconds()}&end={now.ToUnixTimeSeconds()}&step=1"))["result"]!.AsArray();
    }

    public async Task<JsonNode> AskAsync(string path)
    {
        var answer = JsonNode.Parse(await _http.GetStringAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken))!;
        Assert.Equal("success", (string?)answer["status"]);
        return answer["data"]!;
    }
}
