using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Telemetry;
using k8s;
using k8s.Models;

namespace AdjointDpm.Cluster.Tests.Deployment;

/// <summary>The Kubernetes overlays: every object parses strictly into its typed model, and what refers to each other, or to the code, agrees.</summary>
public sealed class ManifestTests
{
    private const string Name = "app.kubernetes.io/name", Component = "app.kubernetes.io/component";
    private static readonly string Root = Path.Combine(Repository.Root, "deploy", "k8s");
    private static readonly Dictionary<string, IReadOnlyList<object>> Rendered = Directory.GetDirectories(Path.Combine(Root, "overlays")).ToDictionary(folder => Path.GetFileName(folder)!, Kustomization.Typed);

    public static TheoryData<string> Overlays() => [.. Rendered.Keys.Order()];

    [Fact]
    public void Overlays_AreThoseOfThePage() => Assert.Equal(["cpu", "gpu", "local", "public"], Rendered.Keys.Order());

    /// <summary>Where there is a kubectl it is asked as well: it must give the same objects.</summary>
    [Theory]
    [MemberData(nameof(Overlays))]
    public async Task Overlay_IsWhatKubectlMakesOfIt(string overlay)
    {
        var folder = Path.Combine(Root, "overlays", overlay);
        var ours = Kustomization.Render(folder).ToDictionary(Id, Canonical);
        Assert.Equal(ours.Count, Rendered[overlay].Count);
        if (!File.Exists("/usr/bin/kubectl"))
            return;
        using var process = Process.Start(new ProcessStartInfo("/usr/bin/kubectl", ["kustomize", folder]) { RedirectStandardOutput = true })!;
        var text = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        var theirs = KubernetesYaml.LoadAllFromString(text, strict: true).Select(item => KubernetesJson.Serialize(item)).Select(json => JsonNode.Parse(json)!.AsObject()).ToDictionary(Id, Canonical);
        Assert.Equal(theirs.Keys.Order(), ours.Keys.Order());
        var typed = Rendered[overlay].Select(item => JsonNode.Parse(KubernetesJson.Serialize(item))!.AsObject()).ToDictionary(Id, Canonical);
        Assert.All(theirs, pair => Assert.Equal(pair.Value, typed[pair.Key]));
    }

    [Fact]
    public void Files_AreAllListed()
    {
        foreach (var folder in Directory.GetFiles(Root, "kustomization.yaml", SearchOption.AllDirectories).Select(file => Path.GetDirectoryName(file)!))
        {
            var text = File.ReadAllText(Path.Combine(folder, "kustomization.yaml"));
            Assert.All(Directory.GetFiles(folder, "*.yaml").Select(file => Path.GetFileName(file)!).Where(file => file != "kustomization.yaml"), file => Assert.Matches($@"(?m)(- |path: ){Regex.Escape(file)}$", text));
            Assert.DoesNotContain("\nbases:", text, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Overlays))]
    public void Overlay_HasTheObjectsOfACluster(string overlay)
    {
        var objects = Rendered[overlay];
        Assert.Equal(["adjointdpm-coordinator", "adjointdpm-worker"], objects.OfType<V1PodDisruptionBudget>().Select(budget => budget.Metadata.Name).Order());
        Assert.Equal(["coordinator", "worker"], Silos(objects).Select(silo => silo.Metadata.Labels[Component]).Order());
        Assert.Contains(objects.OfType<V1Service>(), service => service.Metadata.Name == "adjointdpm-gateway");
        Assert.Equal(overlay != "gpu", objects.OfType<V1StatefulSet>().Any(set => set.Metadata.Name == "redis"));
        Assert.Equal(overlay != "local", objects.OfType<V2HorizontalPodAutoscaler>().Any());
        Assert.All(objects.OfType<IKubernetesObject<V1ObjectMeta>>().Where(item => item is not V1Namespace), item => Assert.Equal("adjointdpm", item.Metadata.NamespaceProperty));
    }

    [Theory]
    [MemberData(nameof(Overlays))]
    public void Selectors_FindWhatTheyAreMeantFor(string overlay)
    {
        var objects = Rendered[overlay];
        var pods = objects.OfType<V1StatefulSet>().Select(set => (set.Metadata.Name, set.Spec.Template.Metadata.Labels, Container: set.Spec.Template.Spec.Containers.Single())).ToList();
        foreach (var set in objects.OfType<V1StatefulSet>())
        {
            Assert.Equal([set.Metadata.Name], Found(set.Spec.Selector.MatchLabels));
            Assert.Contains(objects.OfType<V1Service>(), service => service.Metadata.Name == set.Spec.ServiceName);
        }
        foreach (var service in objects.OfType<V1Service>())
        {
            var found = pods.Where(pod => Found(service.Spec.Selector).Contains(pod.Name)).ToList();
            Assert.NotEmpty(found);
            Assert.All(found, pod => Assert.All(service.Spec.Ports, port => Assert.Contains(pod.Container.Ports, own => own.Name == port.TargetPort.Value && own.ContainerPort == port.Port)));
        }
        Assert.All(objects.OfType<V1PodDisruptionBudget>(), budget => Assert.Equal([budget.Metadata.Name], Found(budget.Spec.Selector.MatchLabels)));
        Assert.All(objects.OfType<V2HorizontalPodAutoscaler>(), scaler => Assert.Contains(Silos(objects), silo => silo.Metadata.Name == scaler.Spec.ScaleTargetRef.Name && silo.Spec.Replicas is null && silo.Metadata.Labels[Component] == "worker"));
        foreach (var affinity in Silos(objects).SelectMany(silo => silo.Spec.Template.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution.Select(term => (silo.Metadata.Name, term))))
            Assert.Equal([affinity.Name], Found(affinity.term.PodAffinityTerm.LabelSelector.MatchLabels));
        Assert.All(objects.OfType<V1NetworkPolicy>(), policy => Assert.NotEmpty(Found(policy.Spec.PodSelector.MatchLabels)));

        List<string> Found(IDictionary<string, string> labels) => [.. pods.Where(pod => labels.All(label => pod.Labels.TryGetValue(label.Key, out var value) && value == label.Value)).Select(pod => pod.Name)];
    }

    [Theory]
    [MemberData(nameof(Overlays))]
    public void Policy_OpensWhatIsNeededAndNoMore(string overlay)
    {
        var objects = Rendered[overlay];
        var policy = objects.OfType<V1NetworkPolicy>().Single(item => item.Metadata.Name == "adjointdpm-silo");
        Assert.Equal(["Egress", "Ingress"], policy.Spec.PolicyTypes.Order());
        var ports = Ports(Silos(objects)[0]).Values.Select(Text).ToHashSet();
        Assert.All(policy.Spec.Ingress.SelectMany(rule => rule.Ports), port => Assert.Contains(port.Port.Value, ports));
        // Silo and tensor port are for silos and nobody else.
        foreach (var inner in new[] { AdjointDpmCluster.DefaultTensorPort, AdjointDpmCluster.DefaultSiloPort })
            Assert.All(Assert.Single(policy.Spec.Ingress, rule => rule.Ports.Any(port => port.Port.Value == Text(inner))).FromProperty, peer => Assert.Equal("adjointdpm-silo", peer.PodSelector.MatchLabels[Name]));
        // The database, and the bucket where there is one.
        var database = overlay == "gpu" ? "5432" : "6379";
        Assert.Contains(policy.Spec.Egress, rule => rule.Ports?.Any(port => port.Port.Value == database) == true);
        Assert.Equal(overlay == "gpu", policy.Spec.Egress.Any(rule => rule.Ports?.Any(port => port.Port.Value == "443") == true));
    }

    [Theory]
    [MemberData(nameof(Overlays))]
    public void Pods_RunUnprivileged_WithoutATokenOrACpuLimit(string overlay)
    {
        foreach (var set in Rendered[overlay].OfType<V1StatefulSet>())
        {
            var (pod, container) = (set.Spec.Template.Spec, set.Spec.Template.Spec.Containers.Single());
            Assert.False(pod.AutomountServiceAccountToken);
            Assert.True(pod.SecurityContext.RunAsNonRoot);
            Assert.True(pod.SecurityContext.RunAsUser > 0);
            Assert.Equal("RuntimeDefault", pod.SecurityContext.SeccompProfile.Type);
            Assert.True(container.SecurityContext.ReadOnlyRootFilesystem);
            Assert.False(container.SecurityContext.AllowPrivilegeEscalation);
            Assert.Equal(["ALL"], container.SecurityContext.Capabilities.Drop);
            Assert.DoesNotContain("cpu", container.Resources.Limits.Keys);
            Assert.Contains("memory", container.Resources.Limits.Keys);
            Assert.Contains("cpu", container.Resources.Requests.Keys);
            Assert.DoesNotContain(":latest", container.Image, StringComparison.Ordinal);
            Assert.Contains(':', container.Image);
        }
    }

    [Theory]
    [MemberData(nameof(Overlays))]
    public void Silos_HaveTheCodesPortsProbesAndTimes(string overlay)
    {
        foreach (var silo in Silos(Rendered[overlay]))
        {
            var (pod, container) = (silo.Spec.Template.Spec, silo.Spec.Template.Spec.Containers.Single());
            Assert.Equal(new Dictionary<string, int> { ["silo"] = AdjointDpmCluster.DefaultSiloPort, ["gateway"] = AdjointDpmCluster.DefaultGatewayPort, ["http"] = AdjointDpmCluster.DefaultHttpPort, ["tensors"] = AdjointDpmCluster.DefaultTensorPort }, Ports(silo));
            var settings = Rendered[overlay].OfType<V1ConfigMap>().Single().Data;
            foreach (var (port, key) in new[] { ("silo", "Silo__SiloPort"), ("gateway", "Silo__GatewayPort"), ("http", "Silo__HttpPort"), ("tensors", "Silo__TensorPort") })
                Assert.Equal(Text(Ports(silo)[port]), settings[key]);
            Assert.Equal(AdjointDpmCluster.LivePath, container.StartupProbe.HttpGet.Path);
            Assert.Equal(AdjointDpmCluster.ReadyPath, container.ReadinessProbe.HttpGet.Path);
            Assert.Equal(AdjointDpmCluster.LivePath, container.LivenessProbe.HttpGet.Path);
            // With certificates the one HTTP port speaks HTTPS.
            var scheme = settings.ContainsKey("Security__TlsFolder") ? "HTTPS" : null;
            Assert.All(new[] { container.StartupProbe, container.ReadinessProbe, container.LivenessProbe }, probe => Assert.Equal(("http", scheme), (probe.HttpGet.Port.Value, probe.HttpGet.Scheme)));
            // A rejoin after a crash of everything was measured at 98 s; a native call may hold a silo up for a minute.
            Assert.True(container.StartupProbe.PeriodSeconds * container.StartupProbe.FailureThreshold >= 200);
            Assert.True(container.LivenessProbe.PeriodSeconds * container.LivenessProbe.FailureThreshold >= 120);
            var shutdown = int.Parse(Regex.Match(Source("SiloProgram.cs"), @"ShutdownTimeout = TimeSpan.FromSeconds\((\d+)\)").Groups[1].Value, CultureInfo.InvariantCulture);
            Assert.True(pod.TerminationGracePeriodSeconds > shutdown);
            Assert.All(new[] { "DOTNET_PROCESSOR_COUNT", "Workers__MaxThreads" }, name => Assert.Equal("requests.cpu", container.Env.Single(variable => variable.Name == name).ValueFrom.ResourceFieldRef.Resource));
        }
        var scraped = Rendered[overlay].OfType<V1Service>().Single(service => service.Metadata.Annotations?.ContainsKey("prometheus.io/path") == true);
        Assert.Equal((AdjointDpmCluster.MetricsPath, Text(AdjointDpmCluster.DefaultHttpPort)), (scraped.Metadata.Annotations["prometheus.io/path"], scraped.Metadata.Annotations["prometheus.io/port"]));
        Assert.Equal(overlay == "local" ? null : "https", scraped.Metadata.Annotations.TryGetValue("prometheus.io/scheme", out var spoken) ? spoken : null);
    }

    [Theory]
    [MemberData(nameof(Overlays))]
    public void Settings_AreThoseThatTheSiloReads(string overlay)
    {
        var options = string.Concat(Directory.GetFiles(Path.Combine(Repository.Root, "src", "Silo"), "*Options.cs").Append(Path.Combine(Repository.Root, "src", "Grains", "Hosting", "WorkerOptions.cs")).Select(File.ReadAllText));
        foreach (var silo in Silos(Rendered[overlay]))
        {
            var environment = silo.Spec.Template.Spec.Containers.Single().Env;
            var settings = Rendered[overlay].OfType<V1ConfigMap>().Single().Data.Keys.Concat(environment.Select(variable => variable.Name)).Where(name => name.Contains("__", StringComparison.Ordinal)).ToArray();
            Assert.NotEmpty(settings);
            Assert.All(settings, name =>
            {
                var parts = name.Split("__");
                Assert.Contains($"Section = \"{parts[0]}\"", options, StringComparison.Ordinal);
                Assert.Matches($@"public \S+ {parts[1]} {{ get;", options);
            });
            // What is expanded must stand before what expands it.
            for (var i = 0; i < environment.Count; i++)
                Assert.All(Regex.Matches(environment[i].Value ?? "", @"\$\((\w+)\)"), match => Assert.Contains(match.Groups[1].Value, environment.Take(i).Select(variable => variable.Name)));
            Assert.Equal(environment.Count, environment.Select(variable => variable.Name).Distinct().Count());
            // Secrets are named and never written down.
            Assert.All(environment.Where(variable => variable.Name.Contains("PASSWORD", StringComparison.Ordinal) || variable.Name.Contains("SECRET", StringComparison.Ordinal) || variable.Name.EndsWith("PostgresConnection", StringComparison.Ordinal)), variable => Assert.NotNull(variable.ValueFrom.SecretKeyRef));
            var devices = environment.Where(variable => variable.Name.StartsWith("Workers__Devices__", StringComparison.Ordinal)).Select(variable => variable.Value).ToList();
            Assert.Equal([silo.Metadata.Labels[Component] == "coordinator" ? WorkerOptions.None : overlay == "gpu" ? "cuda:0" : "cpu:0"], devices);
        }
    }

    [Fact]
    public void Gpu_IsAskedForByWorkersAlone_OnNodesThatHaveIt()
    {
        var silos = Silos(Rendered["gpu"]).ToDictionary(silo => silo.Metadata.Labels[Component], silo => silo.Spec.Template.Spec);
        Assert.Equal("1", silos["worker"].Containers.Single().Resources.Limits["nvidia.com/gpu"].ToString());
        Assert.NotEmpty(silos["worker"].NodeSelector);
        Assert.Contains(silos["worker"].Tolerations, toleration => toleration.Key == "nvidia.com/gpu");
        Assert.Contains(silos["worker"].Tolerations, toleration => toleration.Key.Contains("spot", StringComparison.Ordinal));
        Assert.DoesNotContain("nvidia.com/gpu", silos["coordinator"].Containers.Single().Resources.Limits.Keys);
        Assert.Null(silos["coordinator"].Tolerations);
        Assert.All(silos.Values, pod => Assert.EndsWith("-cuda", pod.Containers.Single().Image, StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Overlays))]
    public void Volumes_AreMountedAndClaimed(string overlay)
    {
        foreach (var silo in Silos(Rendered[overlay]))
        {
            var (volumes, mounts) = (silo.Spec.Template.Spec.Volumes, silo.Spec.Template.Spec.Containers.Single().VolumeMounts);
            Assert.Equal(volumes.Select(volume => volume.Name).Order(), mounts.Select(mount => mount.Name).Order());
            Assert.All(volumes.Where(volume => volume.PersistentVolumeClaim is not null), volume => Assert.Contains(Rendered[overlay].OfType<V1PersistentVolumeClaim>(), claim => claim.Metadata.Name == volume.PersistentVolumeClaim.ClaimName));
            Assert.True(mounts.Single(mount => mount.Name == "models").ReadOnlyProperty);
            Assert.Contains(mounts, mount => mount.MountPath == Rendered[overlay].OfType<V1ConfigMap>().Single().Data["Silo__DataFolder"]);
        }
    }

    /// <summary>Certificates, users and roots by secrets; only the overlay for one machine says in words that it has none.</summary>
    [Theory]
    [MemberData(nameof(Overlays))]
    public void Doors_AreClosedUnlessTheOverlaySaysTheWord(string overlay)
    {
        var settings = Rendered[overlay].OfType<V1ConfigMap>().Single().Data;
        Assert.Equal(overlay == "local", settings.ContainsKey("Security__AllowUnauthenticatedNetwork"));
        foreach (var silo in Silos(Rendered[overlay]))
        {
            var (volumes, mounts) = (silo.Spec.Template.Spec.Volumes, silo.Spec.Template.Spec.Containers.Single().VolumeMounts);
            var secrets = volumes.Where(volume => volume.Secret is not null).ToDictionary(volume => volume.Secret.SecretName, volume => mounts.Single(mount => mount.Name == volume.Name));
            Assert.Equal(overlay == "local" ? [] : ["adjointdpm-tls", "adjointdpm-users"], secrets.Keys.Order());
            if (overlay == "local")
                continue;
            Assert.Equal(secrets["adjointdpm-tls"].MountPath, settings["Security__TlsFolder"]);
            Assert.Equal(secrets["adjointdpm-users"].MountPath + "/users.json", settings["Security__UsersFile"]);
            Assert.Equal(secrets["adjointdpm-users"].MountPath + "/" + Grains.Security.ClusterCertificates.ClusterKeyFile, settings["Security__ClusterKeyFile"]);
            Assert.Contains(mounts, mount => mount.MountPath == settings["Security__Roots__0"] && mount.Name == "models");
            Assert.All(secrets.Values, mount => Assert.True(mount.ReadOnlyProperty));
            // Read by the group, by nobody else, and never written.
            Assert.All(volumes.Where(volume => volume.Secret is not null), volume => Assert.Equal(Convert.ToInt32("440", 8), volume.Secret.DefaultMode));
        }
    }

    /// <summary>What cert-manager would make is what the silos ask for.</summary>
    [Fact]
    public void CertManagerExample_MakesTheSecretsAndUnitsThatAreAskedFor()
    {
        var made = Kustomization.ReadAll(Path.Combine(Root, "examples", "cert-manager.yaml"));
        var certificates = made.Where(item => (string)item["kind"]! == "Certificate").ToDictionary(item => (string)item["spec"]!["secretName"]!, item => item["spec"]!);
        Assert.Equal(["adjointdpm-authority", "adjointdpm-client-tls", "adjointdpm-tls"], certificates.Keys.Order());
        foreach (var (secret, unit) in new[] { ("adjointdpm-tls", Grains.Security.TlsFolder.Silo), ("adjointdpm-client-tls", Grains.Security.TlsFolder.Client) })
        {
            Assert.Equal([unit], certificates[secret]["subject"]!["organizationalUnits"]!.AsArray().Select(word => (string)word!));
            Assert.Equal(["client auth", "server auth"], certificates[secret]["usages"]!.AsArray().Select(word => (string)word!).Order());
            Assert.Contains($"adjointdpm-{unit}", certificates[secret]["dnsNames"]!.AsArray().Select(word => (string)word!));
        }
        Assert.All(made, item => Assert.Equal("adjointdpm", (string)item["metadata"]!["namespace"]!));
        var issuers = made.Where(item => (string)item["kind"]! == "Issuer").Select(item => (string)item["metadata"]!["name"]!).ToList();
        Assert.All(certificates.Values, spec => Assert.Contains((string)spec["issuerRef"]!["name"]!, issuers));
    }

    /// <summary>From outside: the ingress leads to a port of the silos and holds them to the name in their certificates, and what the load balancer lets in the policy does as well.</summary>
    [Fact]
    public void Public_LeadsToTheSilosByTlsAlone()
    {
        var objects = Rendered["public"];
        var ingress = Assert.Single(objects.OfType<V1Ingress>());
        var backend = ingress.Spec.Rules.Single().Http.Paths.Single().Backend.Service;
        Assert.Contains(objects.OfType<V1Service>().Single(service => service.Metadata.Name == backend.Name).Spec.Ports, port => port.Name == backend.Port.Name && port.Port == AdjointDpmCluster.DefaultHttpPort);
        Assert.Equal(("HTTPS", "on", "adjointdpm-silo"), (ingress.Metadata.Annotations["nginx.ingress.kubernetes.io/backend-protocol"], ingress.Metadata.Annotations["nginx.ingress.kubernetes.io/proxy-ssl-verify"], ingress.Metadata.Annotations["nginx.ingress.kubernetes.io/proxy-ssl-name"]));
        Assert.Equal(ingress.Spec.Rules.Select(rule => rule.Host), ingress.Spec.Tls.Single().Hosts);
        var gateway = Assert.Single(objects.OfType<V1Service>(), service => service.Spec.Type == "LoadBalancer");
        Assert.Equal("Local", gateway.Spec.ExternalTrafficPolicy);
        var policy = objects.OfType<V1NetworkPolicy>().Single(item => item.Metadata.Name == "adjointdpm-silo");
        var admitted = policy.Spec.Ingress.Where(rule => rule.Ports.Any(port => port.Port.Value == Text(AdjointDpmCluster.DefaultGatewayPort))).SelectMany(rule => rule.FromProperty).Select(peer => peer.IpBlock?.Cidr).OfType<string>();
        Assert.Equal(gateway.Spec.LoadBalancerSourceRanges, admitted);
        Assert.Contains(policy.Spec.Ingress, rule => rule.FromProperty.Any(peer => peer.NamespaceSelector?.MatchLabels.Values.Contains("ingress-nginx") == true) && rule.Ports.Single().Port.Value == Text(AdjointDpmCluster.DefaultHttpPort));
        Assert.All(Rendered.Where(pair => pair.Key != "public"), pair => Assert.DoesNotContain(pair.Value, item => item is V1Ingress or V1Service { Spec.Type: "LoadBalancer" or "NodePort" }));
    }

    /// <summary>The rule that Prometheus records, the metric that the adapter makes of it, and what both autoscalers ask for are one.</summary>
    [Fact]
    public void Autoscalers_FollowTheWork_ByARuleThatThereIs()
    {
        const string Rule = Observability.Rules.WorkShards;
        var recorded = Assert.Single(Observability.Rules.Recordings, rule => rule.Name == Rule).Expression;
        Assert.Contains($"{AdjointDpmMetrics.QueueDepth.PrometheusName}{{queue=\"shards\"}}", recorded, StringComparison.Ordinal);
        Assert.Contains(AdjointDpmMetrics.Leases.PrometheusName, recorded, StringComparison.Ordinal);
        var adapter = Assert.Single(Kustomization.Read(Path.Combine(Repository.Root, "deploy", "prometheus", "prometheus-adapter.yml"))["externalRules"]!.AsArray())!;
        Assert.Equal(Rule, (string)adapter["seriesQuery"]!);
        Assert.Matches((string)adapter["name"]!["matches"]!, Rule);
        var scaler = Rendered["cpu"].OfType<V2HorizontalPodAutoscaler>().Single().Spec;
        Assert.Equal((string)adapter["name"]!["as"]!, scaler.Metrics.Single().External.Metric.Name);
        // One for each shard under work: a cluster that is busy with all it has asks for what it has, or more.
        Assert.Equal(("AverageValue", "1"), (scaler.Metrics.Single().External.Target.Type, scaler.Metrics.Single().External.Target.AverageValue.ToString()));

        var keda = Kustomization.Read(Path.Combine(Root, "components", "keda", "scaled-object.yaml"))["spec"]!;
        var trigger = Assert.Single(keda["triggers"]!.AsArray())!;
        Assert.Equal(("prometheus", "AverageValue", Rule, "1"), ((string)trigger["type"]!, (string)trigger["metricType"]!, (string)trigger["metadata"]!["query"]!, (string)trigger["metadata"]!["threshold"]!));
        Assert.Equal((scaler.ScaleTargetRef.Kind, scaler.ScaleTargetRef.Name, (long)scaler.MaxReplicas), ((string)keda["scaleTargetRef"]!["kind"]!, (string)keda["scaleTargetRef"]!["name"]!, (long)keda["maxReplicaCount"]!));
        Assert.Equal((long)scaler.Behavior.ScaleDown.StabilizationWindowSeconds!, (long)keda["advanced"]!["horizontalPodAutoscalerConfig"]!["behavior"]!["scaleDown"]!["stabilizationWindowSeconds"]!);
    }

    /// <summary>Redis answers when it has flushed, here as in compose.yaml, and as docs/cluster.md says.</summary>
    [Fact]
    public void Redis_FlushesBeforeItAnswers()
    {
        Assert.Contains("--appendfsync always", Rendered["cpu"].OfType<V1StatefulSet>().Single(set => set.Metadata.Name == "redis").Spec.Template.Spec.Containers.Single().Command[^1], StringComparison.Ordinal);
        Assert.Contains("--appendfsync always", File.ReadAllText(Path.Combine(Repository.Root, "deploy", "compose.yaml")), StringComparison.Ordinal);
        Assert.Contains("`appendfsync always`", File.ReadAllText(Path.Combine(Repository.Root, "docs", "cluster.md")), StringComparison.Ordinal);
    }

    private static List<V1StatefulSet> Silos(IReadOnlyList<object> objects) => [.. objects.OfType<V1StatefulSet>().Where(set => set.Metadata.Labels[Name] == "adjointdpm-silo")];

    private static Dictionary<string, int> Ports(V1StatefulSet silo) => silo.Spec.Template.Spec.Containers.Single().Ports.ToDictionary(port => port.Name, port => port.ContainerPort);

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    private static string Source(string file) => File.ReadAllText(Path.Combine(Repository.Root, "src", "Silo", file));

    private static string Id(JsonObject item) => $"{item["kind"]}/{item["metadata"]!["name"]}";

    /// <summary>Names in order, lists as they are.</summary>
    private static string Canonical(JsonObject item) => Sorted(item)!.ToJsonString();

    private static JsonNode? Sorted(JsonNode? node) => node switch
    {
        JsonObject map => new JsonObject(map.OrderBy(pair => pair.Key, StringComparer.Ordinal).Select(pair => KeyValuePair.Create(pair.Key, Sorted(pair.Value)))),
        JsonArray list => new JsonArray([.. list.Select(Sorted)]),
        null => null,
        _ => node.DeepClone(),
    };
}
