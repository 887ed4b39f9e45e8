using System.Net;
using System.Text.Json;
using AdjointDpm.Cluster.Tests.Servers;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using Microsoft.Playwright;

namespace AdjointDpm.Cluster.Tests.Web;

/// <summary>The silo's pages, as a program and as a person with a browser see them.</summary>
[Collection(RealCluster.OneAtATime)]
public sealed class WebTests
{
    private const string Evil = "<script>alert('x')</script>&\u0001";

    private static readonly ExperimentSpec Two = DigitsSpecs.Small with
    {
        Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Values = ["0.001", "0.0001"] } },
        Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
        Checkpoint = DigitsSpecs.Small.Checkpoint with { Pictures = 2 },
    };

    [Fact]
    public async Task Pages_TellWhatIsThere_EncodeIt_AndServeFilesOnlyByContent()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        using var http = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{cluster.Silos[0].Ready.HttpPort}") };
        var snapshot = await cluster.RunAsync("two", Two);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        await SubmitAsync(cluster, "evil", Evil, Huge);

        var list = await GetAsync(http, "/");
        Assert.Contains("href=\"/experiments/two\"", list.Text, StringComparison.Ordinal);
        Assert.Contains("default-src 'none'", list.Policy, StringComparison.Ordinal);
        Assert.DoesNotContain("unsafe", list.Policy, StringComparison.Ordinal);

        // Whatever an experiment is called, and whatever somebody writes into an address, is text.
        foreach (var address in new[] { "/experiments/evil", "/?find=" + Uri.EscapeDataString(Evil), "/experiments/two?where=" + Uri.EscapeDataString(Evil), "/experiments/" + Uri.EscapeDataString(Evil) })
        {
            var page = await GetAsync(http, address, HttpStatusCode.OK, HttpStatusCode.BadRequest);
            Assert.DoesNotContain("<script>alert", page.Text, StringComparison.Ordinal);
            Assert.Contains("&lt;script&gt;", page.Text, StringComparison.Ordinal);
        }

        // Filtered, sorted and by pages.
        Assert.Contains("trials 1–100 of 10000", (await GetAsync(http, "/experiments/evil")).Text, StringComparison.Ordinal);
        Assert.Contains("trials 9991–10000 of 10000", (await GetAsync(http, "/experiments/evil?sort=index&skip=9990")).Text, StringComparison.Ordinal);
        var some = (await GetAsync(http, "/experiments/evil?where=" + Uri.EscapeDataString("seed > 9000 steps= 2") + "&sort=training.seed&desc=true")).Text;
        Assert.Contains("trials 1–100 of 500", some, StringComparison.Ordinal);
        Assert.Contains("<td>9500</td>", some, StringComparison.Ordinal);
        Assert.Contains("is not a condition", (await GetAsync(http, "/experiments/two?where=nonsense")).Text, StringComparison.Ordinal);

        // Curves, the map of the gradient, times; the numbers are those that the engine measured.
        var steps = await (await cluster.ExperimentAsync("two")).GetStepsAsync(0, TestContext.Current.CancellationToken);
        Assert.Equal([0, 1, 2, 3], steps.Select(step => step.Step));
        Assert.All(steps.Skip(1), step =>
        {
            Assert.Equal(DigitsSpecs.Small.Sample.Steps + 1, step.Profile!.AdjointNorms!.Count);
            Assert.All(step.Profile.AdjointNorms, norm => Assert.True(norm > 0));
            Assert.Equal(4, step.Profile.Shards!.Count);
            Assert.All(step.Profile.Shards, shard => Assert.Equal("silo-0/cpu:0", shard.Worker));
        });
        Assert.Equal(snapshot.Trials[0].Metrics["heldOut.loss.before"], steps[0].Profile!.HeldOut!["loss"]);
        Assert.Equal(snapshot.Trials[0].Metrics["heldOut.loss.after"], steps[3].Profile!.HeldOut!["loss"]);
        var trial = (await GetAsync(http, "/experiments/two/trials/0")).Text;
        Assert.Contains("class=\"heat\"", trial, StringComparison.Ordinal);
        Assert.Contains("adjoint", trial, StringComparison.Ordinal);

        // Pictures on the way, by step and content.
        var drawn = steps.Where(step => step.Profile?.Picture is not null).Select(step => $"/experiments/two/trials/0/pictures/{step.Step:d6}.{step.Profile!.Picture}.png").ToList();
        Assert.Equal(3, drawn.Count);
        foreach (var address in drawn)
        {
            Assert.Contains(address, trial, StringComparison.Ordinal);
            using var drawing = await http.GetAsync(new Uri(address, UriKind.Relative), TestContext.Current.CancellationToken);
            Assert.Equal(("image/png", true), (drawing.Content.Headers.ContentType!.MediaType, drawing.Headers.CacheControl!.ToString().Contains("immutable", StringComparison.Ordinal)));
            using var decoded = SkiaSharp.SKBitmap.Decode(await drawing.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken));
            Assert.NotNull(decoded);
        }
        foreach (var address in new[] { drawn[0].Replace("trials/0", "trials/1", StringComparison.Ordinal).Replace("/000000.", "/000001.", StringComparison.Ordinal), "/experiments/two/trials/0/pictures/..%2f00000001.jsonl", "/experiments/two/trials/0/pictures/x.png" })
            await GetAsync(http, address, HttpStatusCode.NotFound);

        // Files by their content, those of this trial and no others.
        var manifest = await JsonDocument.ParseAsync(File.OpenRead(Path.Combine(snapshot.Trials[0].ArtifactFolder!, "manifest.json")), cancellationToken: TestContext.Current.CancellationToken);
        var picture = manifest.RootElement.GetProperty("files").EnumerateArray().Single(file => file.GetProperty("path").GetString() == "after.png").GetProperty("sha256").GetString()!;
        Assert.Contains($"/experiments/two/trials/0/files/{picture}", trial, StringComparison.Ordinal);
        using var answer = await http.GetAsync(new Uri($"/experiments/two/trials/0/files/{picture}", UriKind.Relative), TestContext.Current.CancellationToken);
        Assert.Equal("image/png", answer.Content.Headers.ContentType!.MediaType);
        Assert.Equal(await File.ReadAllBytesAsync(Path.Combine(snapshot.Trials[0].ArtifactFolder!, "after.png"), TestContext.Current.CancellationToken), await answer.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken));
        foreach (var address in new[] { $"/experiments/evil/trials/0/files/{picture}", "/experiments/two/trials/0/files/after.png", "/experiments/two/trials/0/files/..%2f..%2freport.json", "/experiments/none", "/experiments/two/trials/7" })
            await GetAsync(http, address, HttpStatusCode.NotFound);
        await GetAsync(http, "/experiments/..%2f..%2fetc", HttpStatusCode.BadRequest);

        var audit = (await GetAsync(http, "/experiments/two/audit")).Text;
        Assert.Contains("The ledgers of these 2 trials hold.", audit, StringComparison.Ordinal);
        Assert.Contains("Step 3 of 3", (await GetAsync(http, "/experiments/two/events?trial=1")).Text, StringComparison.Ordinal);
        Assert.Contains("silo-0/cpu:0", (await GetAsync(http, "/workers")).Text, StringComparison.Ordinal);
        // Of one that has ended all that happened is told at once, and then the end.
        Assert.Equal(["opened", "changed", "ended"], (await GetAsync(http, "/live/experiments/two")).Text.Split('\n').Where(line => line.StartsWith("event: ", StringComparison.Ordinal)).Select(line => line["event: ".Length..]).Distinct());
        // Who has heard of all that happened is told nothing, but to ask again: it may be tried again.
        var newest = (await (await cluster.ExperimentAsync("two")).GetSnapshotAsync(TestContext.Current.CancellationToken))!.Sequence;
        using var again = new HttpRequestMessage(HttpMethod.Get, new Uri("/live/experiments/two?after=0", UriKind.Relative)) { Headers = { { "Last-Event-ID", newest.ToString(System.Globalization.CultureInfo.InvariantCulture) } } };
        using var heard = await http.SendAsync(again, TestContext.Current.CancellationToken);
        var lines = (await heard.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)).Split('\n');
        Assert.Equal(["event: opened", "event: ended"], lines.Where(line => line.StartsWith("event: ", StringComparison.Ordinal)));
        Assert.Contains("retry: 10000", lines);
        Assert.Contains($"id: {newest}", lines);

        Assert.DoesNotContain("/dashboard", (await GetAsync(http, "/workers")).Text, StringComparison.Ordinal);
        await GetAsync(http, "/dashboard/", HttpStatusCode.NotFound);
    }

    [Fact]
    public async Task Dashboard_OfOrleans_IsServedWhereItIsAskedFor()
    {
        await using var cluster = await RealCluster.StartAsync(1, "--Silo:Dashboard=true");
        using var http = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{cluster.Silos[0].Ready.HttpPort}") };
        Assert.Contains("href=\"/dashboard/\"", (await GetAsync(http, "/workers")).Text, StringComparison.Ordinal);
        Assert.Contains("Orleans Dashboard", (await GetAsync(http, "/dashboard/")).Text, StringComparison.OrdinalIgnoreCase);
        // The pages of its own stay where they were.
        Assert.Contains("None yet.", (await GetAsync(http, "/")).Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Browser_FollowsALiveExperiment_ByKeyboard_OnAPhone_WithoutErrors()
    {
        await using var cluster = await RealCluster.StartAsync(1);
        await using var chromium = await Chromium.StartAsync();
        var console = new List<string>();
        var root = $"http://127.0.0.1:{cluster.Silos[0].Ready.HttpPort}";
        var page = await chromium.OpenAsync(1200, 900, console);
        await page.GotoAsync(root + "/");
        await Assertions.Expect(page.GetByText("None yet.")).ToBeVisibleAsync();
        await SubmitAsync(cluster, "digits-live", "digits", Two);

        // The list fills while it is looked at.
        await Assertions.Expect(page.GetByRole(AriaRole.Link, new() { Name = "digits-live" })).ToBeVisibleAsync(new() { Timeout = 30_000 });
        await page.GetByRole(AriaRole.Link, new() { Name = "digits-live" }).ClickAsync();
        await Assertions.Expect(page.GetByRole(AriaRole.Heading, new() { Level = 1 })).ToHaveTextAsync("digits");
        // And so does the experiment, to its end, without being loaded again.
        await page.EvaluateAsync("window.here = true");
        // What is put in anew keeps its place: scrolled as it was, and with the keyboard where it was.
        await page.EvaluateAsync(Narrow);
        await page.Locator("#trials .scroll").FocusAsync();
        await page.EvaluateAsync("() => { const table = document.querySelector('#trials .scroll'); table.scrollLeft = 37; window.before = table; }");
        await page.WaitForFunctionAsync("() => document.querySelector('#trials .scroll') !== window.before", null, new() { Timeout = 150_000 });
        await Assertions.Expect(page.Locator("#trials .scroll")).ToBeFocusedAsync();
        Assert.Equal(37, await page.Locator("#trials .scroll").EvaluateAsync<int>("table => table.scrollLeft"));
        await Assertions.Expect(page.Locator("#state .state")).ToHaveTextAsync("succeeded", new() { Timeout = 150_000 });
        await Assertions.Expect(page.Locator(".live")).ToHaveTextAsync("ended");
        Assert.True(await page.EvaluateAsync<bool>("window.here === true"));

        // By keyboard alone: past the navigation to the filter, and from a trial's link to its page.
        await page.GotoAsync(root + "/experiments/digits-live");
        await page.Keyboard.PressAsync("Tab");
        await Assertions.Expect(page.GetByText("To the content")).ToBeFocusedAsync();
        await page.Keyboard.PressAsync("Enter");
        await page.GetByLabel("Conditions").FocusAsync();
        await page.Keyboard.TypeAsync("index=1");
        await page.Keyboard.PressAsync("Enter");
        await Assertions.Expect(page.Locator("#trials tbody tr")).ToHaveCountAsync(1);
        var link = page.Locator("#trials tbody a");
        for (var tabs = 0; tabs < 40 && !await link.EvaluateAsync<bool>("link => link === document.activeElement"); tabs++)
            await page.Keyboard.PressAsync("Tab");
        await page.Keyboard.PressAsync("Enter");
        await page.WaitForURLAsync(root + "/experiments/digits-live/trials/1");
        // Beside each other until somebody moves the slider, and again when that is wanted.
        Assert.False(await page.Locator("#pictures .pair").EvaluateAsync<bool>("pair => pair.classList.contains('over')"));
        await page.Locator("#pictures input").FocusAsync();
        await page.Keyboard.PressAsync("Home");
        Assert.Equal("0", await page.Locator("#pictures .pair img").Last.EvaluateAsync<string>("picture => picture.style.opacity"));
        await page.Keyboard.PressAsync("Tab");
        await page.Keyboard.PressAsync("Enter");
        Assert.False(await page.Locator("#pictures .pair").EvaluateAsync<bool>("pair => pair.classList.contains('over')"));
        // Samples on the way: the newest, and by the slider those before.
        await Assertions.Expect(page.Locator("#steps .now")).ToHaveAttributeAsync("data-step", "3");
        await page.Locator("#steps input").FocusAsync();
        await page.Keyboard.PressAsync("Home");
        await Assertions.Expect(page.Locator("#steps .now")).ToHaveAttributeAsync("data-step", "0");
        await Assertions.Expect(page.Locator("#steps output")).ToHaveTextAsync("0");

        // Every page on a phone, in the dark: nothing is wider than the screen but what scrolls in itself.
        var phone = await chromium.OpenAsync(390, 844, console, ColorScheme.Dark);
        foreach (var path in new[] { "/", "/experiments/digits-live", "/experiments/digits-live/trials/0", "/experiments/digits-live/events", "/experiments/digits-live/audit", "/workers" })
        {
            await phone.GotoAsync(root + path);
            await phone.ScreenshotAsync(new() { FullPage = true, Path = Picture($"phone{path.Replace('/', '-')}.png") });
            Assert.True(await phone.EvaluateAsync<int>("document.documentElement.scrollWidth") <= 390, $"{path} is wider than a phone: {await phone.EvaluateAsync<string>(Widest)}");
        }
        Assert.Equal("rgb(13, 17, 23)", await phone.EvaluateAsync<string>("getComputedStyle(document.body).backgroundColor"));
        foreach (var path in new[] { "/experiments/digits-live", "/experiments/digits-live/trials/0" })
        {
            await page.GotoAsync(root + path);
            await page.ScreenshotAsync(new() { FullPage = true, Path = Picture($"desk{path.Replace('/', '-')}.png") });
        }
        Assert.Empty(console);
    }

    /// <summary>Makes tables scroll.</summary>
    private const string Narrow = "() => { document.styleSheets[0].insertRule('.scroll { max-width: 12rem; }'); }";

    /// <summary>What reaches beyond the screen and does not scroll in itself.</summary>
    private const string Widest = """
        [...document.querySelectorAll("body *")].filter(one => one.getBoundingClientRect().right > innerWidth && !one.closest(".scroll"))
            .map(one => one.outerHTML.slice(0, 120)).join("\n")
        """;

    /// <summary>10,000 trials, of which none is begun.</summary>
    private static ExperimentSpec Huge => DigitsSpecs.Small with
    {
        Parameters = new Dictionary<string, ParameterSpec>
        {
            ["training.seed"] = new() { Values = [.. Enumerable.Range(4501, 5000).Select(i => i.ToString(System.Globalization.CultureInfo.InvariantCulture))] },
            ["sample.steps"] = new() { Values = ["2", "3"] },
        },
        Resources = new ResourceSpec { Device = DeviceKind.Cuda },
    };

    private static string Picture(string name) => Path.Combine(Directory.CreateDirectory(Path.Combine(Repository.Root, "artifacts", "web")).FullName, name);

    private static async Task SubmitAsync(RealCluster cluster, string id, string name, ExperimentSpec spec)
    {
        var json = ExperimentSpecJson.Serialize(spec);
        await (await cluster.ExperimentAsync(id)).SubmitAsync(new ExperimentSubmission(json, ExperimentSpecJson.Sha256(json), name), TestContext.Current.CancellationToken);
    }

    private static async Task<(string Text, string Policy)> GetAsync(HttpClient http, string path, params HttpStatusCode[] expected)
    {
        using var answer = await http.GetAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken);
        var text = await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        Assert.True(expected.Length == 0 ? answer.StatusCode == HttpStatusCode.OK : expected.Contains(answer.StatusCode), $"{path}: {answer.StatusCode}\n{text}");
        return (text, answer.Headers.TryGetValues("Content-Security-Policy", out var policy) ? string.Join(' ', policy) : "");
    }
}
