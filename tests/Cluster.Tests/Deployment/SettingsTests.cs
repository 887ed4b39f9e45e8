using System.ComponentModel.DataAnnotations;
using System.Net;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Silo;
using k8s.Models;
using Microsoft.Extensions.Configuration;

namespace AdjointDpm.Cluster.Tests.Deployment;

/// <summary>The environments of deploy/ are read as a silo reads them: none may be refused at the start.</summary>
public sealed class SettingsTests
{
    private static readonly string Deploy = Path.Combine(Repository.Root, "deploy");
    private static readonly Dictionary<string, Dictionary<string, string?>> Environments = Compose().Concat(Kubernetes()).ToDictionary(pair => pair.Silo, pair => pair.Environment);

    public static TheoryData<string> Silos() => [.. Environments.Keys];

    [Fact]
    public void Silos_AreThoseOfComposeAndOfEveryOverlay() =>
        Assert.Equal(["compose/silo-0", "compose/silo-1", .. from overlay in new[] { "cpu", "gpu", "local", "public" } from kind in new[] { "coordinator", "worker" } select $"{overlay}/adjointdpm-{kind}"], Environments.Keys);

    [Theory]
    [MemberData(nameof(Silos))]
    public void Silo_ReadsItsSettings_AndListensToTheNetworkOnlyWithCertificatesAndUsersOrTheWord(string silo)
    {
        var settings = Settings(silo);
        var host = settings.Read<SiloHostOptions>(SiloHostOptions.Section);
        _ = settings.Read<ClusterHostOptions>(ClusterHostOptions.Section);
        _ = settings.Read<WorkerOptions>(WorkerOptions.Section);
        _ = settings.Read<ArtifactsHostOptions>(ArtifactsHostOptions.Section);
        _ = settings.Read<TelemetryHostOptions>(TelemetryHostOptions.Section);
        var security = settings.Read<SecurityHostOptions>(SecurityHostOptions.Section);
        Assert.Equal(IPAddress.Any, host.ListenAddress);
        Assert.Matches("^[a-z0-9-]+$", host.Name);
        security.Demand(host.ListenAddress);
        var open = silo.StartsWith("local/", StringComparison.Ordinal);
        Assert.Equal(open, security.AllowUnauthenticatedNetwork);
        Assert.Equal(open, security.TlsFolder is null);
        Assert.Equal(open, security.UsersFile is null);
        Assert.Equal(open, security.Roots.Count == 0);
        Assert.True(security.RequireClientCertificate);
        Assert.False(security.OpenMetrics);

        // What closes the doors is what was looked at here.
        security.TlsFolder = null;
        security.AllowUnauthenticatedNetwork = false;
        Assert.Contains("without authentication and TLS", Assert.Throws<ValidationException>(() => security.Demand(host.ListenAddress)).Message, StringComparison.Ordinal);
    }

    /// <summary>Probes and health checks find the silo by the scheme that it speaks.</summary>
    [Theory]
    [MemberData(nameof(Silos))]
    public void Health_IsAskedForWhereTheSiloAnswers(string silo)
    {
        var settings = Settings(silo);
        var security = settings.Read<SecurityHostOptions>(SecurityHostOptions.Section);
        Assert.Equal($"{(security.TlsFolder is null ? "http" : "https")}://127.0.0.1:8080{AdjointDpmCluster.ReadyPath}", HealthCheck.AddressOf(settings.Read<SiloHostOptions>(SiloHostOptions.Section), security.TlsFolder is not null).AbsoluteUri);
    }

    [Theory]
    [InlineData("10.0.0.7", "0.0.0.0", "http://127.0.0.1:8080/health/ready")]
    [InlineData("2001:db8::7", "::", "http://[::1]:8080/health/ready")]
    [InlineData("::1", "::1", "http://[::1]:8080/health/ready")]
    [InlineData("127.0.0.1", "127.0.0.1", "http://127.0.0.1:8080/health/ready")]
    public void Address_DecidesWhereToListen(string advertised, string listen, string health)
    {
        var host = new SiloHostOptions { AdvertisedAddress = advertised };
        Assert.Equal(IPAddress.Parse(listen), host.ListenAddress);
        Assert.Equal(health, HealthCheck.AddressOf(host, secured: false).AbsoluteUri);
    }

    private static IConfiguration Settings(string silo) =>
        new ConfigurationBuilder().AddInMemoryCollection(Environments[silo].Select(pair => KeyValuePair.Create(pair.Key.Replace("__", ":", StringComparison.Ordinal), pair.Value))).Build();

    private static IEnumerable<(string Silo, Dictionary<string, string?> Environment)> Compose()
    {
        var services = Kustomization.Read(Path.Combine(Deploy, "compose.yaml"))["services"]!.AsObject();
        foreach (var (name, service) in services.Where(service => service.Key.StartsWith("silo-", StringComparison.Ordinal)))
            yield return ($"compose/{name}", service!["environment"]!.AsObject().ToDictionary(pair => pair.Key, pair => (string?)Text(pair.Value!)));
    }

    private static IEnumerable<(string Silo, Dictionary<string, string?> Environment)> Kubernetes()
    {
        foreach (var overlay in Directory.GetDirectories(Path.Combine(Deploy, "k8s", "overlays")).Order())
        {
            var objects = Kustomization.Typed(overlay);
            foreach (var set in objects.OfType<V1StatefulSet>().Where(set => set.Metadata.Name != "redis").OrderBy(set => set.Metadata.Name))
            {
                var environment = objects.OfType<V1ConfigMap>().Single().Data.ToDictionary(pair => pair.Key, pair => (string?)pair.Value);
                foreach (var variable in set.Spec.Template.Spec.Containers.Single().Env)
                    environment[variable.Name] = Regex.Replace(variable.Value ?? ValueFrom(set, variable.ValueFrom), @"\$\((\w+)\)", name => environment[name.Groups[1].Value]!);
                yield return ($"{Path.GetFileName(overlay)}/{set.Metadata.Name}", environment);
            }
        }
    }

    /// <summary>As a kubelet fills it in.</summary>
    private static string ValueFrom(V1StatefulSet set, V1EnvVarSource source) => source switch
    {
        { FieldRef.FieldPath: "metadata.name" } => $"{set.Metadata.Name}-0",
        { FieldRef.FieldPath: "status.podIP" } => "10.1.2.3",
        { ResourceFieldRef: not null } => "2",
        { SecretKeyRef: { } secret } => $"{secret.Name}/{secret.Key}",
        _ => throw new InvalidDataException("A source that is not known here."),
    };

    private static string Text(JsonNode value) => value.GetValueKind() == System.Text.Json.JsonValueKind.String ? (string)value! : value.ToJsonString();
}
