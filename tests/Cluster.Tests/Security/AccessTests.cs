using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using AdjointDpm.Client.Connection;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Security;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Cluster.Tests.Security;

/// <summary>Users by token: what they may, what they may not, and what is written down of it.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class AccessTests : IDisposable
{
    /// <summary>Wrong tokens within a minute before an address has to wait.</summary>
    private const int MostFailures = 10;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("adjointdpm-access-");

    private string Users => Path.Combine(_folder.FullName, "users.json");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public async Task Users_DoWhatTheirRoleAndProjectAllow_AndNothingElse()
    {
        var cancellation = TestContext.Current.CancellationToken;
        await using var silo = await StartAsync();
        var spec = DigitsSpecs.Small with { Training = DigitsSpecs.Small.Training with { Steps = 12 } };

        // At the door: a wrong token, and one that was added while the silo ran.
        await File.WriteAllTextAsync(Token("wrong"), UsersFile.NewToken(), cancellation);
        Assert.Equal("This cluster does not know the token.", (await Assert.ThrowsAsync<UnauthorizedAccessException>(() => OpenAsync(silo, "wrong"))).Message);
        AddUser("late", "vision", Role.View);
        // Who comes looks at the file again; one who is known counts as no failure.
        while (!silo.Log.Contains("users.json or what belongs to it has changed and was read again", StringComparison.Ordinal))
        {
            await (await OpenAsync(silo, "ana")).DisposeAsync();
            await Task.Delay(TimeSpan.FromMilliseconds(250), TimeProvider.System, cancellation);
        }
        await (await OpenAsync(silo, "late")).DisposeAsync();

        await using var ana = await OpenAsync(silo, "ana");
        await using var vic = await OpenAsync(silo, "vic");
        await using var bob = await OpenAsync(silo, "bob");
        await using var root = await OpenAsync(silo, "root");

        // Roles.
        var refused = await Assert.ThrowsAsync<UnauthorizedAccessException>(() => SubmitAsync(vic, "first", spec));
        Assert.Equal("To submit takes the role submit, but vic has view in project vision.", refused.Message);
        await SubmitAsync(ana, "first", spec);
        Assert.NotNull(await vic.GetSnapshotAsync("first", cancellation));
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => vic.ControlAsync("first", new ExperimentControl { Verb = ControlVerb.Pause }, cancellation));
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => ana.CordonAsync(["silo-0/cpu:0"], true, cancellation));
        Assert.Empty(await root.CordonAsync(["silo-0/cpu:0"], true, cancellation));
        Assert.Empty(await root.CordonAsync(["silo-0/cpu:0"], false, cancellation));

        // Quota: one trial at once.
        var over = await Assert.ThrowsAsync<UnauthorizedAccessException>(() => SubmitAsync(ana, "second", spec));
        Assert.StartsWith("Project vision may run 1 trials at once; its unfinished experiments take 1, and this one asks for 1.", over.Message, StringComparison.Ordinal);

        // Projects: what is another's is not there, by whatever way.
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => bob.GetSnapshotAsync("first", cancellation));
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => bob.ControlAsync("first", new ExperimentControl { Verb = ControlVerb.Cancel }, cancellation));
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => bob.ReplayAsync("first", 0, 1, cancellation));
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => SubmitAsync(bob, "first", spec));
        await Assert.ThrowsAsync<UnauthorizedAccessException>(async () => await bob.WatchAsync("first", 0, cancellation).GetAsyncEnumerator(cancellation).MoveNextAsync());
        Assert.Empty(await bob.ListAsync(0, 10, cancellation));
        Assert.Single(await vic.ListAsync(0, 10, cancellation));
        Assert.Single(await root.ListAsync(0, 10, cancellation));

        // Machines are everybody's, what they compute is not.
        await RealCluster.RetryAsync(async () =>
        {
            var (own, others) = (await vic.ListWorkersAsync(cancellation), await bob.ListWorkersAsync(cancellation));
            Assert.Contains(own.Single().Work, work => work.Run == "first/0");
            Assert.All(others.Single().Work, work => Assert.Equal((WorkInHand.Foreign, "", 0, 0), (work.Run, work.Kind, work.Step, work.Shard)));
            Assert.NotEmpty(others.Single().Work);
            Assert.Contains((await root.ListWorkersAsync(cancellation)).Single().Work, work => work.Run == "first/0");
        });

        // It runs to its end while its watcher looks on.
        await foreach (var happened in vic.WatchAsync("first", 0, cancellation))
            if (happened.Kind == EventKind.ExperimentEnded)
                break;
        var done = await vic.GetSnapshotAsync("first", cancellation);
        Assert.True(done!.Summary.State == RunState.Succeeded, done.Reason);
        Assert.Equal("vision", done.Summary.Project);

        // Quota: two experiments kept.
        await SubmitAsync(ana, "second", spec);
        Assert.StartsWith("Project vision keeps 2 of its 2 experiments.", (await Assert.ThrowsAsync<UnauthorizedAccessException>(() => SubmitAsync(ana, "third", spec))).Message, StringComparison.Ordinal);

        await NotForClientsAsync(silo, cancellation);
        await SpecsAreNotTrustedAsync(bob, root, cancellation);
        await HttpNeedsATokenAsync(silo, cancellation);

        var lines = (await File.ReadAllLinesAsync(Path.Combine(_folder.FullName, "data", "audit", "silo-0.jsonl"), cancellation)).Select(line => JsonNode.Parse(line)!).ToList();
        Assert.Contains(lines, line => (string?)line["user"] == "ana" && (string?)line["action"] == "submit" && (string?)line["target"] == "first" && (string?)line["outcome"] == "done" && (string?)line["project"] == "vision");
        Assert.Contains(lines, line => (string?)line["user"] == "vic" && (string?)line["action"] == "pause" && (string?)line["outcome"] == "refused");
        Assert.Contains(lines, line => (string?)line["user"] == "root" && (string?)line["action"] == "cordon" && (string?)line["target"] == "silo-0/cpu:0");
        Assert.DoesNotContain("adpm_", string.Concat(lines.Select(line => line.ToJsonString())) + silo.Log, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WrongTokens_BlockTheirAddressForAWhile_AndAnswerNothingThatHelps()
    {
        var cancellation = TestContext.Current.CancellationToken;
        await using var silo = await StartAsync();
        using var http = Http(silo);
        var answers = new List<HttpStatusCode>();
        for (var i = 0; i < 200; i++)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, "/metrics") { Headers = { Authorization = new AuthenticationHeaderValue("Bearer", UsersFile.NewToken()) } };
            using var answer = await http.SendAsync(request, cancellation);
            answers.Add(answer.StatusCode);
            Assert.True((await answer.Content.ReadAsStringAsync(cancellation)).Length < 100);
        }
        Assert.Equal(MostFailures, answers.Count(answer => answer == HttpStatusCode.Unauthorized));
        Assert.Equal(200 - MostFailures, answers.Count(answer => answer == HttpStatusCode.TooManyRequests));
        // Wrong ones are not listened to at the other port neither.
        await File.WriteAllTextAsync(Token("wrong"), UsersFile.NewToken(), cancellation);
        Assert.Equal("Too many wrong tokens came from this address. Try again in a minute.", (await Assert.ThrowsAsync<UnauthorizedAccessException>(() => OpenAsync(silo, "wrong"))).Message);
        // Right ones pass meanwhile: behind a port-forward or an ingress all have one address.
        await using (var ana = await OpenAsync(silo, "ana"))
            Assert.Empty(await ana.ListAsync(0, 10, cancellation));
        Assert.Equal(HttpStatusCode.OK, await StatusAsync(http, "ana", "/"));
        Assert.Matches("(?m)^adjointdpm_refusals_total\\{[^}]*reason=\"token\"[^}]*\\} 201", await MetricsAsync(http));
        Assert.Equal("live\n", await http.GetStringAsync(new Uri("/health/live", UriKind.Relative), cancellation));
        Assert.Contains("\"action\":\"guess tokens\"", await File.ReadAllTextAsync(Path.Combine(_folder.FullName, "data", "audit", "silo-0.jsonl"), cancellation), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task TokensOfAnIssuer_AreTakenAtTheHttpPort_WhenSignedForThisClusterAndInTime(bool allProjects)
    {
        var cancellation = TestContext.Current.CancellationToken;
        await using var issuer = await Issuer.StartAsync();
        await using var silo = await StartAsync($"--Security:OidcAuthority={issuer.Address}", "--Security:OidcAudience=adjointdpm", $"--Security:OidcAllProjects={allProjects}");
        using var http = Http(silo);
        var good = new JsonObject { ["sub"] = "eve", ["adjointdpm_project"] = "vision", ["adjointdpm_role"] = "view" };
        foreach (var (claims, forged, status) in new (JsonObject, bool, HttpStatusCode)[]
        {
            (With(good), false, HttpStatusCode.OK),
            (With(good), true, HttpStatusCode.Unauthorized),
            (With(good, ("aud", "another")), false, HttpStatusCode.Unauthorized),
            (With(good, ("iss", "https://elsewhere.example")), false, HttpStatusCode.Unauthorized),
            (With(good, ("exp", 1_000_000_000)), false, HttpStatusCode.Unauthorized),
            (With(good, ("adjointdpm_role", "2")), false, HttpStatusCode.Unauthorized),
            // All projects are no issuer's to give, unless that was said.
            (With(good, ("adjointdpm_project", "*")), false, allProjects ? HttpStatusCode.OK : HttpStatusCode.Unauthorized),
        })
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, "/") { Headers = { Authorization = new("Bearer", issuer.Sign(claims, forged)) } };
            using var answer = await http.SendAsync(request, cancellation);
            Assert.Equal(status, answer.StatusCode);
        }

        static JsonObject With(JsonObject claims, params (string Name, JsonNode Value)[] others)
        {
            var changed = (JsonObject)claims.DeepClone();
            foreach (var (name, value) in others)
                changed[name] = value;
            return changed;
        }
    }

    [Fact]
    public async Task UsersWithoutAClusterKey_IsASentence()
    {
        AddUser("ana", "vision", Role.Submit);
        var (code, error) = await SiloProcess.FailAsync($"--Security:UsersFile={Users}", $"--Silo:DataFolder={_folder.FullName}");
        Assert.Equal(1, code);
        Assert.Contains("Security:ClusterKeyFile is not: without it a client could pass for a silo", error, StringComparison.Ordinal);
    }

    /// <summary>A client may speak Orleans well and still reach nothing but what clients are for.</summary>
    private async Task NotForClientsAsync(SiloProcess silo, CancellationToken cancellation)
    {
        var builder = Host.CreateApplicationBuilder();
        builder.Logging.ClearProviders();
        builder.UseOrleansClient(client => client.UseAdjointDpmGateways([new IPEndPoint(IPAddress.Loopback, silo.Ready.GatewayPort)]).UseAdjointDpmCredentials(null, Token("ana")));
        using var host = builder.Build();
        await host.StartAsync(cancellation);
        var grains = host.Services.GetRequiredService<IGrainFactory>();
        foreach (var forged in new (string Key, object Value)[] { ("none", ""), ("adjointdpm.caller", "Admin\n*\nroot"), ("adjointdpm.asking", "Admin\n*\nroot"), ("adjointdpm.cluster", new string('0', 64)) })
        {
            RequestContext.Set(forged.Key, forged.Value);
            await RefusedAsync(() => grains.GetGrain<IManagementGrain>(0).ForceGarbageCollection([]));
            await RefusedAsync(() => grains.GetGrain<IManagementGrain>(0).GetHosts());
            await RefusedAsync(() => grains.GetGrain<IWorkerDirectoryGrain>(IWorkerDirectoryGrain.Key).CordonAsync(["silo-0/cpu:0"], true, cancellation));
            await RefusedAsync(() => grains.GetGrain<IExperimentDirectoryGrain>(IExperimentDirectoryGrain.Key).PutAsync(new ExperimentSummary { Id = "x", Name = "x", State = RunState.Running, Trials = 1, TrialsEnded = 0, SubmittedAt = default }));
            RequestContext.Remove(forged.Key);
        }
        await host.StopAsync(cancellation);
    }

    private static async Task RefusedAsync(Func<Task> call) => await Assert.ThrowsAsync<UnauthorizedAccessException>(call);

    private async Task SpecsAreNotTrustedAsync(IClusterConnection bob, IClusterConnection root, CancellationToken cancellation)
    {
        var spec = DigitsSpecs.Small;
        var outside = spec with { Model = spec.Model with { Path = _folder.FullName } };
        Assert.StartsWith("model.path names a path outside of the folders that this cluster takes models and files from", (await Assert.ThrowsAsync<UnauthorizedAccessException>(() => SubmitAsync(bob, "outside", outside))).Message, StringComparison.Ordinal);
        // Neither dots nor links lead out.
        var dots = spec with { Model = spec.Model with { Path = Path.Combine(DigitsSpecs.Models, "..", "..", "..") } };
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => SubmitAsync(bob, "dots", dots));
        var link = Path.Combine(_folder.FullName, "root", "link");
        Directory.CreateSymbolicLink(link, "/etc");
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => SubmitAsync(bob, "link", spec with { Model = spec.Model with { Path = link } }));
        var sidecar = spec with { Losses = [new LossSpec { Name = LossName.Sidecar, Addresses = ["http://169.254.169.254/latest"] }] };
        Assert.Contains("is not among those", (await Assert.ThrowsAsync<UnauthorizedAccessException>(() => SubmitAsync(bob, "sidecar", sidecar))).Message, StringComparison.Ordinal);
        var script = spec with { Losses = [new LossSpec { Name = LossName.TorchScript, File = Path.Combine(DigitsSpecs.Models, "x.pt") }] };
        Assert.Contains("only an admin may submit it", (await Assert.ThrowsAsync<UnauthorizedAccessException>(() => SubmitAsync(bob, "script", script))).Message, StringComparison.Ordinal);
        var swept = spec with { Parameters = new Dictionary<string, ParameterSpec> { ["model.path"] = new() { Values = [DigitsSpecs.Models, "/etc"] } } };
        await Assert.ThrowsAsync<UnauthorizedAccessException>(() => SubmitAsync(bob, "swept", swept));
        Assert.Contains("longer than", (await Assert.ThrowsAsync<ArgumentException>(() => root.SubmitAsync("long", new ExperimentSubmission(new string(' ', 2_000_000), new string('0', 64), "long"), cancellation))).Message, StringComparison.Ordinal);
        // Too long for a message: the call fails and the cluster goes on.
        await Assert.ThrowsAnyAsync<Exception>(() => bob.SubmitAsync("huge", new ExperimentSubmission(new string('x', 40 << 20), new string('0', 64), "huge"), cancellation));
        Assert.Empty(await bob.ListAsync(0, 10, cancellation));
        await SubmitAsync(bob, "allowed", spec);
    }

    private async Task HttpNeedsATokenAsync(SiloProcess silo, CancellationToken cancellation)
    {
        using var http = Http(silo);
        Assert.Equal("ready\n", await http.GetStringAsync(new Uri("/health/ready", UriKind.Relative), cancellation));
        var token = (await File.ReadAllTextAsync(Token("vic"), cancellation)).Trim();
        foreach (var (authorization, status) in new (AuthenticationHeaderValue?, HttpStatusCode)[]
        {
            (null, HttpStatusCode.Unauthorized),
            (new("Bearer", "adpm_no"), HttpStatusCode.Unauthorized),
            (new("Bearer", token), HttpStatusCode.OK),
            (new("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes($"vic:{token}"))), HttpStatusCode.OK),
        })
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, "/") { Headers = { Authorization = authorization } };
            using var answer = await http.SendAsync(request, cancellation);
            Assert.Equal(status, answer.StatusCode);
        }
        // Metrics name the experiments of all projects, with their losses.
        Assert.Equal(HttpStatusCode.Forbidden, await StatusAsync(http, "vic", "/metrics"));
        Assert.Equal(HttpStatusCode.Forbidden, await StatusAsync(http, "bob", "/metrics"));
        Assert.Contains("adjointdpm_steps_total", await MetricsAsync(http), StringComparison.Ordinal);
        // Pages show what the grains would: bob's project has no such experiment.
        var other = (await File.ReadAllTextAsync(Token("bob"), cancellation)).Trim();
        foreach (var (who, path, status) in new[]
        {
            (token, "/experiments/first", HttpStatusCode.OK), (other, "/experiments/first", HttpStatusCode.Forbidden), (other, "/live/experiments/first", HttpStatusCode.Forbidden),
            (other, $"/experiments/first/trials/0/files/{new string('0', 64)}", HttpStatusCode.Forbidden), (other, "/", HttpStatusCode.OK),
        })
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, path) { Headers = { Authorization = new("Bearer", who) } };
            using var answer = await http.SendAsync(request, cancellation);
            Assert.Equal((path, status), (path, answer.StatusCode));
            if (who == other)
                Assert.DoesNotContain("/experiments/first", await answer.Content.ReadAsStringAsync(cancellation), StringComparison.Ordinal);
        }
        foreach (var (site, method, host, status) in new[]
        {
            ("cross-site", HttpMethod.Post, "127.0.0.1", HttpStatusCode.Forbidden),
            ("same-origin", HttpMethod.Post, "127.0.0.1", HttpStatusCode.Forbidden),
            ("none", HttpMethod.Get, "evil.example", HttpStatusCode.BadRequest),
        })
        {
            using var request = new HttpRequestMessage(method, "/metrics") { Headers = { Authorization = new("Bearer", token), Host = host } };
            request.Headers.Add("Sec-Fetch-Site", site);
            using var answer = await http.SendAsync(request, cancellation);
            Assert.Equal(status, answer.StatusCode);
        }
    }

    private async Task<SiloProcess> StartAsync(params string[] more)
    {
        Directory.CreateDirectory(Path.Combine(_folder.FullName, "root"));
        ClusterCertificates.Make(_folder.FullName, TimeSpan.FromDays(2), TimeProvider.System.GetUtcNow());
        AddUser("ana", "vision", Role.Submit);
        AddUser("vic", "vision", Role.View);
        AddUser("bob", "audio", Role.Submit);
        AddUser("root", "*", Role.Admin);
        var document = JsonNode.Parse(await File.ReadAllTextAsync(Users, TestContext.Current.CancellationToken))!;
        document["projects"] = new JsonObject { ["vision"] = new JsonObject { ["runningTrials"] = 1, ["experiments"] = 2 } };
        await File.WriteAllTextAsync(Users, document.ToJsonString(), TestContext.Current.CancellationToken);
        return await SiloProcess.StartAsync("silo-0", Path.Combine(_folder.FullName, "data"), null, [$"--Security:UsersFile={Users}", $"--Security:ClusterKeyFile={Path.Combine(_folder.FullName, "silo", "cluster.key")}", $"--Security:Roots:0={DigitsSpecs.Models}", $"--Security:Roots:1={Path.Combine(_folder.FullName, "root")}", .. more]);
    }

    private void AddUser(string name, string project, Role role)
    {
        var token = UsersFile.NewToken();
        UsersFile.Put(Users, name, project, role, token);
        SecretFile.Write(Token(name), token);
    }

    private string Token(string name) => Path.Combine(_folder.FullName, $"{name}.token");

    private Task<IClusterConnection> OpenAsync(SiloProcess silo, string? user) =>
        OrleansConnection.OpenAsync(ClusterTarget.Resolve([FormattableString.Invariant($"127.0.0.1:{silo.Ready.GatewayPort}")], null, null!) with { TokenFile = user is null ? null : Token(user) }, TestContext.Current.CancellationToken);

    private async Task<HttpStatusCode> StatusAsync(HttpClient http, string user, string path)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, path) { Headers = { Authorization = new("Bearer", (await File.ReadAllTextAsync(Token(user), TestContext.Current.CancellationToken)).Trim()) } };
        using var answer = await http.SendAsync(request, TestContext.Current.CancellationToken);
        return answer.StatusCode;
    }

    /// <summary>As somebody sees them who may.</summary>
    private async Task<string> MetricsAsync(HttpClient http)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/metrics") { Headers = { Authorization = new("Bearer", (await File.ReadAllTextAsync(Token("root"), TestContext.Current.CancellationToken)).Trim()) } };
        using var answer = await http.SendAsync(request, TestContext.Current.CancellationToken);
        return await answer.EnsureSuccessStatusCode().Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
    }

    private static HttpClient Http(SiloProcess silo) => new() { BaseAddress = new Uri(FormattableString.Invariant($"http://127.0.0.1:{silo.Ready.HttpPort}")) };

    private static Task<SubmitReceipt> SubmitAsync(IClusterConnection cluster, string id, ExperimentSpec spec)
    {
        var json = ExperimentSpecJson.Serialize(spec with { MaxConcurrentTrials = 1 });
        return cluster.SubmitAsync(id, new ExperimentSubmission(json, ExperimentSpecJson.Sha256(json), id), TestContext.Current.CancellationToken);
    }
}
