using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using AdjointDpm.Cluster.Tests.Servers;
using AdjointDpm.Grains.Security;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Silo;

namespace AdjointDpm.Cluster.Tests.Observability;

/// <summary>A silo with certificates and users, asked as the files of deploy/ ask it: by Prometheus with its configuration, and by the image's health check.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class SecuredScrapeTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("adjointdpm-scrape-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public async Task PrometheusWithItsTokenAndTheAuthority_ScrapesASecuredSilo_AndTheHealthCheckSeesIt()
    {
        ClusterCertificates.Make(_folder.FullName, TimeSpan.FromDays(2), TimeProvider.System.GetUtcNow());
        var (users, token) = (Path.Combine(_folder.FullName, "users.json"), UsersFile.NewToken());
        UsersFile.Put(users, "prometheus", Caller.AllProjects, Role.View, token);
        SecretFile.Write(Path.Combine(_folder.FullName, "prometheus.token"), token + "\n");
        var tls = $"--Security:TlsFolder={Path.Combine(_folder.FullName, "silo")}";
        await using var silo = await SiloProcess.StartAsync("silo-0", Path.Combine(_folder.FullName, "data"), null, tls, $"--Security:UsersFile={users}", $"--Security:ClusterKeyFile={Path.Combine(_folder.FullName, "silo", ClusterCertificates.ClusterKeyFile)}");

        var from = TimeProvider.System.GetUtcNow();
        var configuration = await File.ReadAllTextAsync(Path.Combine(Repository.Root, "deploy", "prometheus", "prometheus.yml"), TestContext.Current.CancellationToken);
        foreach (var (theirs, ours) in new[]
        {
            ("secrets/ca.crt", Path.Combine(_folder.FullName, "silo", TlsFolder.AuthorityFile)), ("secrets/prometheus.token", Path.Combine(_folder.FullName, "prometheus.token")),
            ("[silo-0:8080, silo-1:8080]", string.Create(CultureInfo.InvariantCulture, $"['127.0.0.1:{silo.Ready.HttpPort}']")), ("rules/*.yml", Path.Combine(Repository.Root, "deploy", "prometheus", "rules", "*.yml")),
        })
        {
            Assert.Contains(theirs, configuration, StringComparison.Ordinal);
            configuration = configuration.Replace(theirs, ours, StringComparison.Ordinal);
        }
        await using var prometheus = await PrometheusServer.StartByAsync(Regex.Replace(configuration, "_interval: 15s", "_interval: 1s"));
        await RealCluster.RetryAsync(async () => Assert.Single(await prometheus.RangeAsync("up{job=\"adjointdpm\"} == 1", from)));
        await RealCluster.RetryAsync(async () => Assert.Single(await prometheus.RangeAsync($"{AdjointDpmMetrics.CertificateExpiry.PrometheusName} - time() > 86400", from)));
        Assert.Equal(3, (await prometheus.RangeAsync(AdjointDpmMetrics.Refusals.PrometheusName, from)).Count);

        var port = string.Create(CultureInfo.InvariantCulture, $"--Silo:HttpPort={silo.Ready.HttpPort}");
        Assert.Equal((0, "ready\n"), await HealthAsync(port, tls));
        // Plain HTTP is not what it speaks, and where nobody listens nobody is healthy.
        Assert.Equal((1, ""), await HealthAsync(port));
        Assert.Equal((1, ""), await HealthAsync("--Silo:HttpPort=1", tls));
    }

    private static async Task<(int Code, string Said)> HealthAsync(params string[] settings)
    {
        using var process = Process.Start(new ProcessStartInfo("dotnet", [SiloProcess.Program, HealthCheck.Argument, .. settings]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var said = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, said);
    }
}
