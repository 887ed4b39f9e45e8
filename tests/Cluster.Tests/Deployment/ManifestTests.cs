using System.Text.RegularExpressions;
using AdjointDpm.Grains.Hosting;
using k8s;
using k8s.Models;

namespace AdjointDpm.Cluster.Tests.Deployment;

/// <summary>The Kubernetes base: every object parses strictly into its typed model, and what refers to each other agrees.</summary>
public sealed partial class ManifestTests
{
    private static readonly string Folder = Path.Combine(Repository.Root, "deploy", "k8s", "base");
    private static readonly IReadOnlyList<object> Objects = Load(text => text);

    /// <summary>The base with what it offers in comments: results in a bucket.</summary>
    private static readonly IReadOnlyList<object> WithBucket = Load(text => BucketChoice().Replace(text, "$1"));

    private static V1StatefulSet Silo => Objects.OfType<V1StatefulSet>().Single(s => s.Metadata.Name == "adjointdpm-silo");

    private static V1Container Container => SiloOf(Objects);

    private static IDictionary<string, string> SiloLabels => Silo.Spec.Template.Metadata.Labels;

    [Fact]
    public void Kustomization_ListsEveryFile()
    {
        var text = File.ReadAllText(Path.Combine(Folder, "kustomization.yaml"));
        var files = Directory.GetFiles(Folder, "*.yaml").Select(f => Path.GetFileName(f)!).Where(f => f != "kustomization.yaml").ToArray();
        Assert.NotEmpty(files);
        Assert.All(files, file => Assert.Contains($"- {file}\n", text, StringComparison.Ordinal));
    }

    [Fact]
    public void Base_HasTheObjectsOfACluster()
    {
        Assert.Single(Objects.OfType<V1PodDisruptionBudget>());
        Assert.Equal(2, Objects.OfType<V1NetworkPolicy>().Count());
        Assert.Equal(["adjointdpm-silo", "redis"], Objects.OfType<V1StatefulSet>().Select(s => s.Metadata.Name).Order());
        Assert.Contains(Objects.OfType<V1Service>(), s => s.Metadata.Name == "adjointdpm-gateway");
    }

    [Fact]
    public void Services_SelectSilosAndNameTheirPorts()
    {
        foreach (var service in Objects.OfType<V1Service>().Where(s => s.Metadata.Name.StartsWith("adjointdpm", StringComparison.Ordinal)))
        {
            Assert.All(service.Spec.Selector, pair => Assert.Equal(pair.Value, SiloLabels[pair.Key]));
            Assert.All(service.Spec.Ports, port => Assert.Contains(Container.Ports, p => p.Name == port.TargetPort.Value && p.ContainerPort == port.Port));
        }

        Assert.Contains(Objects.OfType<V1Service>(), s => s.Metadata.Name == Silo.Spec.ServiceName);
    }

    [Fact]
    public void Policies_SelectSilosAndOpenOnlyTheirPorts()
    {
        var budget = Objects.OfType<V1PodDisruptionBudget>().Single();
        Assert.All(budget.Spec.Selector.MatchLabels, pair => Assert.Equal(pair.Value, SiloLabels[pair.Key]));
        var policy = Objects.OfType<V1NetworkPolicy>().Single(p => p.Metadata.Name == "adjointdpm-silo");
        Assert.All(policy.Spec.PodSelector.MatchLabels, pair => Assert.Equal(pair.Value, SiloLabels[pair.Key]));
        var open = policy.Spec.Ingress.SelectMany(rule => rule.Ports).Select(p => int.Parse(p.Port.Value, System.Globalization.CultureInfo.InvariantCulture)).Distinct();
        Assert.All(open, port => Assert.Contains(Container.Ports, p => p.ContainerPort == port));
        // Tensors go to silos and to nobody else.
        var tensors = policy.Spec.Ingress.Where(rule => rule.Ports.Any(p => p.Port.Value == AdjointDpmCluster.DefaultTensorPort.ToString(System.Globalization.CultureInfo.InvariantCulture))).ToArray();
        Assert.All(Assert.Single(tensors).FromProperty, peer => Assert.All(peer.PodSelector.MatchLabels, pair => Assert.Equal(pair.Value, SiloLabels[pair.Key])));
    }

    [Fact]
    public void Silo_RunsUnprivilegedWithoutATokenOrACpuLimit()
    {
        var pod = Silo.Spec.Template.Spec;
        Assert.False(pod.AutomountServiceAccountToken);
        Assert.True(pod.SecurityContext.RunAsNonRoot);
        Assert.True(Container.SecurityContext.ReadOnlyRootFilesystem);
        Assert.DoesNotContain("cpu", Container.Resources.Limits.Keys);
    }

    [Fact]
    public void Ports_AreTheProgramsDefaults()
    {
        var ports = Container.Ports.ToDictionary(p => p.Name, p => p.ContainerPort);
        Assert.Equal(AdjointDpmCluster.DefaultSiloPort, ports["silo"]);
        Assert.Equal(AdjointDpmCluster.DefaultGatewayPort, ports["gateway"]);
        Assert.Equal(AdjointDpmCluster.DefaultHttpPort, ports["http"]);
        Assert.Equal(AdjointDpmCluster.DefaultTensorPort, ports["tensors"]);
        var settings = Objects.OfType<V1ConfigMap>().Single().Data;
        foreach (var (name, key) in new[] { ("silo", "Silo__SiloPort"), ("gateway", "Silo__GatewayPort"), ("http", "Silo__HttpPort"), ("tensors", "Silo__TensorPort") })
            Assert.Equal(ports[name].ToString(System.Globalization.CultureInfo.InvariantCulture), settings[key]);
    }

    [Fact]
    public void Settings_AreThoseThatTheSiloReads()
    {
        AssertRead(Objects);
        AssertRead(WithBucket);
    }

    [Fact]
    public void Bucket_IsAChoiceInComments_WithItsKeysInASecret()
    {
        Assert.DoesNotContain(Objects.OfType<V1ConfigMap>().Single().Data.Keys, name => name.StartsWith("Artifacts", StringComparison.Ordinal));
        Assert.Equal(["Artifacts__Bucket", "Artifacts__Endpoint", "Artifacts__Prefix", "Artifacts__Region"], WithBucket.OfType<V1ConfigMap>().Single().Data.Keys.Where(name => name.StartsWith("Artifacts", StringComparison.Ordinal)).Order());
        var keys = SiloOf(WithBucket).Env.Where(variable => variable.Name.StartsWith("AWS_", StringComparison.Ordinal)).ToList();
        Assert.Equal(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], keys.Select(variable => variable.Name));
        Assert.All(keys, variable => Assert.Equal("adjointdpm-bucket", variable.ValueFrom.SecretKeyRef.Name));
        var policy = WithBucket.OfType<V1NetworkPolicy>().Single(p => p.Metadata.Name == "adjointdpm-silo");
        Assert.Contains(policy.Spec.Egress, rule => rule.To.Any(to => to.IpBlock is not null) && rule.Ports.Single().Port.Value == "443");
    }

    private static V1Container SiloOf(IReadOnlyList<object> objects) => objects.OfType<V1StatefulSet>().Single(s => s.Metadata.Name == "adjointdpm-silo").Spec.Template.Spec.Containers.Single();

    private static void AssertRead(IReadOnlyList<object> objects)
    {
        var options = string.Concat(Directory.GetFiles(Path.Combine(Repository.Root, "src", "Silo"), "*Options.cs").Select(File.ReadAllText));
        var settings = objects.OfType<V1ConfigMap>().Single().Data.Keys.Concat(SiloOf(objects).Env.Select(e => e.Name)).Where(name => name.Contains("__", StringComparison.Ordinal)).ToArray();
        Assert.NotEmpty(settings);
        Assert.All(settings, name =>
        {
            var parts = name.Split("__");
            Assert.Contains($"Section = \"{parts[0]}\"", options, StringComparison.Ordinal);
            Assert.Matches($@"public \S+ {parts[1]} {{ get; set", options);
        });
    }

    [Fact]
    public void Volumes_AreMountedAndClaimed()
    {
        var volumes = Silo.Spec.Template.Spec.Volumes;
        Assert.Equal(volumes.Select(v => v.Name).Order(), Container.VolumeMounts.Select(m => m.Name).Order());
        var claim = volumes.Single(v => v.PersistentVolumeClaim is not null).PersistentVolumeClaim.ClaimName;
        Assert.Contains(Objects.OfType<V1PersistentVolumeClaim>(), c => c.Metadata.Name == claim);
    }

    private static List<object> Load(Func<string, string> change) =>
        [.. Directory.GetFiles(Folder, "*.yaml").Where(f => Path.GetFileName(f) != "kustomization.yaml").Order()
            .SelectMany(file => KubernetesYaml.LoadAllFromString(change(File.ReadAllText(file)), strict: true))];

    [GeneratedRegex(@"^( *)# (?=Artifacts__|- name: AWS_|  valueFrom: |- to:$|    - ipBlock: |  ports:$|    - \{port: )", RegexOptions.Multiline)]
    private static partial Regex BucketChoice();
}
