using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using AdjointDpm.Client.Connection;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Silo;

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
        Assert.Equal(["dotnet", Path.GetFileName(SiloProcess.Program), HealthCheck.Argument], Health());
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
        Assert.Equal(["grafana", "prepare", "prometheus", "redis", "silo-0", "silo-1"], services.Select(service => service.Key).Order());
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

    /// <summary>The programs that stand in for an engine build what the Dockerfile builds.</summary>
    [Fact]
    public void PublishScript_SaysWhatTheDockerfileSays()
    {
        var script = File.ReadAllText(Path.Combine(Deploy, "publish.sh"));
        var publish = Regex.Match(Dockerfile, "dotnet publish .*?-o /app").Value;
        Assert.NotEmpty(publish);
        foreach (var word in publish.Split(' ', StringSplitOptions.RemoveEmptyEntries).Except(["--no-restore", "/app", "-p:TorchBackend=${TORCH_BACKEND}"]))
            Assert.Contains(word, script, StringComparison.Ordinal);
        Assert.Contains("deploy/split-libtorch.sh /app /opt/libtorch", Dockerfile, StringComparison.Ordinal);
    }

    /// <summary>What the image holds, with its variables, as its user, on a root that is mounted for reading alone: it says where libtorch came from, is healthy, and computes.</summary>
    [Fact]
    public async Task Image_Published_RunsAsItsUser_OnARootThatItCannotWriteTo_AndComputes()
    {
        if (!Environment.IsPrivilegedProcess)
            Assert.Skip("Running as another user takes root.");
        var cancellation = TestContext.Current.CancellationToken;
        var image = Path.Combine(Repository.Root, "artifacts", "image");
        TestContext.Current.TestOutputHelper!.WriteLine(await RunAsync(Path.Combine(Deploy, "publish.sh"), image));
        var (program, libtorch) = (Path.Combine(image, "app", Path.GetFileName(SiloProcess.Program)), Path.Combine(image, "libtorch"));
        Assert.True(File.Exists(Path.Combine(libtorch, "libtorch_cpu.so")));
        Assert.Empty(Directory.GetFiles(Path.Combine(image, "app"), "libtorch*.so", SearchOption.AllDirectories).Select(Path.GetFileName).Except(["libLibTorchSharp.so"]));

        var folder = Directory.CreateTempSubdirectory("adjointdpm-image-").FullName;
        foreach (var name in new[] { "data", "tmp" })
            Directory.CreateDirectory(Path.Combine(folder, name));
        await RunAsync("chown", "-R", $"{User}:{User}", folder);
        // /proc/self/mountinfo tells where the data folder's file system is mounted; a bind of its own keeps it writable.
        var script = $"mount --make-rprivate / && mount --bind {folder} {folder} && mount -o remount,ro,bind / && exec \"$@\"";
        string[] command = ["unshare", "--mount", "bash", "-c", script, "silo", "/usr/bin/setpriv", $"--reuid={User}", $"--regid={User}", "--clear-groups", "--", Dotnet, program];
        string[] variables = [$"ADJOINTDPM_LIBTORCH={libtorch}", "HOME=/nonexistent", $"TMPDIR={folder}/tmp", $"XDG_CACHE_HOME={folder}/tmp/cache", "DOTNET_EnableDiagnostics=0", "ASPNETCORE_HTTP_PORTS="];
        try
        {
            if (Environment.GetEnvironmentVariable("ADJOINTDPM_NO_NAMESPACES") == "1")
                command = command[6..];
            else
                Assert.True(await Succeeds("unshare", "--mount", "true"), "'unshare --mount' does not work here, so nothing shows that the silo gets by with a read-only root. Say ADJOINTDPM_NO_NAMESPACES=1 to run it without.");
            await using var silo = await SiloProcess.StartByAsync(command, "image", Path.Combine(folder, "data"), variables);
            Assert.Equal("ready\n", await silo.GetAsync(AdjointDpmCluster.ReadyPath));
            Assert.Equal("live\n", await silo.GetAsync(AdjointDpmCluster.LivePath));
            var status = await File.ReadAllTextAsync($"/proc/{silo.Ready.ProcessId}/status", cancellation);
            Assert.Matches($@"(?m)^Uid:\t{User}\t{User}\t", status);
            if (command[0] == "unshare")
                Assert.Matches(@"(?m)^\d+ \d+ \S+ / / ro", await File.ReadAllTextAsync($"/proc/{silo.Ready.ProcessId}/mountinfo", cancellation));
            // What it loaded is the layer of its own.
            var maps = await File.ReadAllTextAsync($"/proc/{silo.Ready.ProcessId}/maps", cancellation);
            Assert.All(maps.Split('\n').Where(line => line.Contains("libtorch_cpu.so", StringComparison.Ordinal)), line => Assert.EndsWith(Path.Combine(libtorch, "libtorch_cpu.so"), line, StringComparison.Ordinal));
            Assert.Contains(Path.Combine(libtorch, "libtorch_cpu.so"), maps, StringComparison.Ordinal);

            var port = string.Create(CultureInfo.InvariantCulture, $"--Silo:HttpPort={silo.Ready.HttpPort}");
            Assert.True(await Succeeds(Dotnet, [program, .. Health()[2..], port]));
            Assert.False(await Succeeds(Dotnet, [program, .. Health()[2..], "--Silo:HttpPort=1"]));

            await using (var client = await OrleansConnection.OpenAsync(ClusterTarget.Resolve([FormattableString.Invariant($"127.0.0.1:{silo.Ready.GatewayPort}")], null, null!), cancellation))
            {
                var json = ExperimentSpecJson.Serialize(DigitsSpecs.Small with { HeldOut = null, Training = DigitsSpecs.Small.Training with { Steps = 1 } });
                await client.SubmitAsync("image", new ExperimentSubmission(json, ExperimentSpecJson.Sha256(json), "image"), cancellation);
                await foreach (var happened in client.WatchAsync("image", 0, cancellation))
                    if (happened.Kind == EventKind.ExperimentEnded)
                        break;
                var ended = await client.GetSnapshotAsync("image", cancellation);
                Assert.True(ended!.Summary.State == RunState.Succeeded, ended.Reason);
            }
            Assert.Equal(0, await silo.TerminateAsync());
            // The log says nothing of a place that it wanted to write to.
            Assert.DoesNotContain("Read-only file system", silo.Log, StringComparison.Ordinal);
            Assert.DoesNotContain("denied", silo.Log, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Every package that the program is made of is in the bill of materials, with its hash.</summary>
    [Fact]
    public async Task BillOfMaterials_NamesEveryPackageOfTheProgram()
    {
        var folder = Directory.CreateTempSubdirectory("adjointdpm-sbom-").FullName;
        try
        {
            var file = (await RunAsync(Path.Combine(Deploy, "sbom.sh"), folder)).Trim();
            var bill = JsonNode.Parse(await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken))!;
            Assert.Equal("CycloneDX", (string)bill["bomFormat"]!);
            Assert.Equal("adjointdpm-silo", (string)bill["metadata"]!["component"]!["name"]!);
            var named = bill["components"]!.AsArray().ToDictionary(part => $"{part!["name"]}/{part["version"]}", part => part!);
            var built = JsonNode.Parse(await File.ReadAllTextAsync(Path.ChangeExtension(SiloProcess.Program, ".deps.json"), TestContext.Current.CancellationToken))!["libraries"]!.AsObject().Where(library => (string)library.Value!["type"]! == "package").Select(library => library.Key).ToList();
            Assert.True(built.Count > 50);
            Assert.All(built, package =>
            {
                Assert.True(named.TryGetValue(package, out var part), package);
                Assert.StartsWith("pkg:nuget/", (string)part["purl"]!, StringComparison.Ordinal);
                Assert.NotEmpty(part["hashes"]!.AsArray());
            });
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string Dotnet => Environment.ProcessPath is { } path && Path.GetFileName(path) == "dotnet" ? path : Path.Combine(Path.GetDirectoryName(typeof(object).Assembly.Location)!, "..", "..", "..", "dotnet");

    private static async Task<string> RunAsync(string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var (said, error) = (process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken), process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken));
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(process.ExitCode == 0, $"{program} ended with code {process.ExitCode}:\n{await said}\n{await error}");
        return await said;
    }

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
