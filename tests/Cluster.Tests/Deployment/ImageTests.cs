using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using AdjointDpm.Cluster.Tests.Servers;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Cluster.Tests.Deployment;

/// <summary>The image and the compose file, as far as that goes without an engine: what they say is what the code says, and a silo runs as the image's user on a root that it cannot write to.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed partial class ImageTests
{
    private static readonly string Deploy = Path.Combine(Repository.Root, "deploy");
    private static readonly string Dockerfile = File.ReadAllText(Path.Combine(Deploy, "Dockerfile")).ReplaceLineEndings("\n").Replace("\\\n", " ", StringComparison.Ordinal);
    private static readonly JsonObject Compose = Kustomization.Read(Path.Combine(Deploy, "compose.yaml"));

    private static string User => Regex.Match(Dockerfile, @"(?m)^USER (\d+):\d+$").Groups[1].Value;

    [Fact]
    public void Dockerfile_SaysWhatTheCodeAndTheManifestsSay()
    {
        Assert.Equal(new[] { AdjointDpmCluster.DefaultSiloPort, AdjointDpmCluster.DefaultTensorPort, AdjointDpmCluster.DefaultGatewayPort, AdjointDpmCluster.DefaultHttpPort }.Order(),
            Regex.Match(Dockerfile, "(?m)^EXPOSE (.*)$").Groups[1].Value.Split(' ').Select(port => int.Parse(port, CultureInfo.InvariantCulture)).Order());
        Assert.Contains($"GET {AdjointDpmCluster.ReadyPath} HTTP", Health()[2], StringComparison.Ordinal);
        Assert.Contains($"/{AdjointDpmCluster.DefaultHttpPort} ", Health()[2], StringComparison.Ordinal);
        Assert.Contains("ENTRYPOINT [\"dotnet\", \"AdjointDpm.Silo.dll\"]", Dockerfile, StringComparison.Ordinal);
        Assert.Contains($"runAsUser: {User}\n", File.ReadAllText(Path.Combine(Deploy, "k8s", "base", "silo-pod.yaml")), StringComparison.Ordinal);
        Assert.Contains(Native.NativeTorch.FolderVariable + "=/opt/libtorch", Dockerfile, StringComparison.Ordinal);
        Assert.Contains("COPY --from=build /opt/libtorch /opt/libtorch", Dockerfile, StringComparison.Ordinal);
    }

    /// <summary>Restore needs every project that the silo is built from, before the sources are there; and the context must have what is copied.</summary>
    [Fact]
    public void Dockerfile_CopiesWhatIsNeeded_AndTheContextHasIt()
    {
        var needed = new HashSet<string>();
        Need(Path.Combine(Repository.Root, "src", "Silo", "Silo.csproj"));
        Assert.Equal(4, needed.Count);
        Assert.All(needed, project => Assert.Contains($"COPY {project} ", Dockerfile, StringComparison.Ordinal));
        var ignored = File.ReadAllLines(Path.Combine(Repository.Root, ".dockerignore"));
        foreach (var source in Regex.Matches(Dockerfile, "(?m)^COPY (?!--from)(.*) \\S+$").SelectMany(match => match.Groups[1].Value.Split(' ')))
        {
            Assert.True(Path.Exists(Path.Combine(Repository.Root, source)), source);
            Assert.Contains(ignored, line => line.StartsWith('!') && ("/" + source).StartsWith("/" + line[1..], StringComparison.Ordinal));
        }

        void Need(string project)
        {
            needed.Add(Path.GetRelativePath(Repository.Root, project));
            foreach (var reference in Regex.Matches(File.ReadAllText(project), "ProjectReference Include=\"([^\"]+)\"").Select(match => match.Groups[1].Value))
                Need(Path.GetFullPath(Path.Combine(Path.GetDirectoryName(project)!, reference)));
        }
    }

    /// <summary>What hadolint would say, by hand.</summary>
    [Fact]
    public void Dockerfile_IsWrittenWell()
    {
        Assert.All(Regex.Matches(Dockerfile, @"(?m)^FROM (\S+)"), from => Assert.Matches(@":(?!latest)[\w.-]+$", from.Groups[1].Value));
        Assert.DoesNotContain("\nADD ", Dockerfile, StringComparison.Ordinal);
        Assert.DoesNotContain("sudo", Dockerfile, StringComparison.Ordinal);
        Assert.DoesNotContain("apt-get", Dockerfile, StringComparison.Ordinal);
        Assert.DoesNotMatch("(?i)password|secret|token", Dockerfile);
        Assert.All(Regex.Matches(Dockerfile, @"(?m)^(?:WORKDIR) (\S+)$"), folder => Assert.StartsWith("/", folder.Groups[1].Value, StringComparison.Ordinal));
        // The user comes after everything that is copied, so that the program cannot be written to by it.
        Assert.True(Dockerfile.LastIndexOf("\nUSER ", StringComparison.Ordinal) > Dockerfile.LastIndexOf("\nCOPY ", StringComparison.Ordinal));
        Assert.NotEqual("0", User);
    }

    [Fact]
    public void Compose_AgreesWithImageCodeAndFiles()
    {
        var services = Compose["services"]!.AsObject();
        Assert.Equal(["data", "grafana", "prometheus", "redis", "silo-0", "silo-1"], services.Select(service => service.Key).Order());
        var options = string.Concat(Directory.GetFiles(Path.Combine(Repository.Root, "src", "Silo"), "*Options.cs").Select(File.ReadAllText));
        foreach (var name in new[] { "silo-0", "silo-1" })
        {
            var silo = services[name]!;
            Assert.Equal($"{User}:{User}", (string)silo["user"]!);
            Assert.True((bool)silo["read_only"]!);
            Assert.Equal("ALL", (string)silo["cap_drop"]![0]!);
            Assert.Equal(name, (string)silo["environment"]!["Silo__Name"]!);
            Assert.Equal((string)silo["networks"]!["cluster"]!["ipv4_address"]!, (string)silo["environment"]!["Silo__AdvertisedAddress"]!);
            Assert.All(silo["environment"]!.AsObject().Where(pair => pair.Key.Contains("__", StringComparison.Ordinal)), pair =>
            {
                Assert.Contains($"Section = \"{pair.Key.Split("__")[0]}\"", options, StringComparison.Ordinal);
                Assert.Matches($@"public \S+ {pair.Key.Split("__")[1]} {{ get;", options);
            });
            Assert.EndsWith($":{AdjointDpmCluster.DefaultGatewayPort}", (string)silo["ports"]![0]!, StringComparison.Ordinal);
            Assert.Contains($"{name}:{AdjointDpmCluster.DefaultHttpPort}", File.ReadAllText(Path.Combine(Deploy, "prometheus", "prometheus.yml")), StringComparison.Ordinal);
        }
        foreach (var (name, service) in services)
        {
            Assert.All(service!["ports"]?.AsArray() ?? [], port => Assert.StartsWith("127.0.0.1:", (string)port!, StringComparison.Ordinal));
            Assert.Matches(@":(?!latest)[\w.-]+$", (string)service["image"]!);
            foreach (var volume in service["volumes"]?.AsArray().Select(volume => ((string)volume!).Split(':')[0]) ?? [])
                if (volume.StartsWith('.'))
                    Assert.True(Path.Exists(Path.Combine(Deploy, volume)), $"{name}: {volume}");
                else if (!volume.StartsWith('$'))
                    Assert.True(Compose["volumes"]!.AsObject().ContainsKey(volume), $"{name}: {volume}");
        }
        // Where the boards are mounted is where Grafana is told to look, and Prometheus is where its data source says.
        Assert.Contains("path: /var/lib/grafana/dashboards\n", File.ReadAllText(Path.Combine(Deploy, "grafana", "provisioning", "dashboards", "adjointdpm.yaml")), StringComparison.Ordinal);
        Assert.Contains(services["grafana"]!["volumes"]!.AsArray(), volume => (string)volume! == "./grafana/dashboards:/var/lib/grafana/dashboards:ro");
        Assert.Contains("url: http://prometheus:9090\n", File.ReadAllText(Path.Combine(Deploy, "grafana", "provisioning", "datasources", "prometheus.yaml")), StringComparison.Ordinal);
    }

    /// <summary>With the image's variables, as somebody who owns nothing, on a root that is mounted for reading alone where this machine lets tests do that.</summary>
    [Fact]
    public async Task Silo_RunsAsNobody_WithoutWritingAnywhereButItsData_AndTheHealthCheckSeesIt()
    {
        if (!Environment.IsPrivilegedProcess)
            Assert.Skip("Running as another user takes root.");
        var folder = Directory.CreateTempSubdirectory("adjointdpm-image-").FullName;
        foreach (var name in new[] { "data", "tmp" })
            Directory.CreateDirectory(Path.Combine(folder, name));
        using (var owner = Process.Start("chown", ["-R", "65534:65534", folder]))
            await owner.WaitForExitAsync(TestContext.Current.CancellationToken);
        var alone = await Succeeds("unshare", "--mount", "true");
        // /proc/self/mountinfo tells where the data folder's file system is mounted; a bind of its own keeps it writable.
        var script = alone ? $"mount --make-rprivate / && mount --bind {folder} {folder} && mount -o remount,ro,bind / && exec \"$@\"" : "exec \"$@\"";
        string[] command = [.. alone ? new[] { "unshare", "--mount" } : [], "bash", "-c", script, "silo", .. DebianPackages.AsNobody, Dotnet, SiloProcess.Program];
        try
        {
            await using var silo = await SiloProcess.StartByAsync(command, "image", Path.Combine(folder, "data"),
                "HOME=/nonexistent", $"TMPDIR={folder}/tmp", $"XDG_CACHE_HOME={folder}/tmp/cache", "DOTNET_EnableDiagnostics=0", "ASPNETCORE_HTTP_PORTS=");
            Assert.Equal("ready\n", await silo.GetAsync(AdjointDpmCluster.ReadyPath));
            Assert.Equal("live\n", await silo.GetAsync(AdjointDpmCluster.LivePath));
            var check = Health();
            var ours = check[2].Replace($"/{AdjointDpmCluster.DefaultHttpPort} ", string.Create(CultureInfo.InvariantCulture, $"/{silo.Ready.HttpPort} "), StringComparison.Ordinal);
            Assert.True(await Succeeds(check[0], check[1], ours));
            Assert.False(await Succeeds(check[0], check[1], ours.Replace(AdjointDpmCluster.ReadyPath, "/health/none", StringComparison.Ordinal)));
            if (alone)
                Assert.Matches(@"(?m)^\d+ \d+ \S+ / / ro", await File.ReadAllTextAsync($"/proc/{silo.Ready.ProcessId}/mountinfo", TestContext.Current.CancellationToken));
            Assert.Equal(0, await silo.TerminateAsync());
            // Its state lies in the data folder, and the log says nothing of a place that it wanted to write to.
            Assert.NotEmpty(Directory.GetFiles(Path.Combine(folder, "data"), "*", SearchOption.AllDirectories));
            Assert.DoesNotContain("Read-only file system", silo.Log, StringComparison.Ordinal);
            Assert.DoesNotContain("denied", silo.Log, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string Dotnet => Environment.ProcessPath is { } path && Path.GetFileName(path) == "dotnet" ? path : Path.Combine(Path.GetDirectoryName(typeof(object).Assembly.Location)!, "..", "..", "..", "dotnet");

    private static async Task<bool> Succeeds(string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return process.ExitCode == 0;
    }

    private static string[] Health() => [.. JsonNode.Parse(HealthCommand().Match(Dockerfile).Groups[1].Value)!.AsArray().Select(part => (string)part!)];

    [GeneratedRegex(@"HEALTHCHECK .*?CMD (\[.*\])")]
    private static partial Regex HealthCommand();
}
