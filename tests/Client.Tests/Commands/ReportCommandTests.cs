using System.Globalization;
using System.Text.Json.Nodes;
using System.Xml.Linq;
using AdjointDpm.Client.CommandLine;

namespace AdjointDpm.Client.Tests.Commands;

public sealed class ReportCommandTests : IDisposable
{
    private static readonly string[] Sections = ["Before and after", "Training and held-out", "Is the gradient right?", "Memory and time", "Trials", "The same run again", "Limitations"];

    /// <summary>A picture of one pixel.</summary>
    private static readonly byte[] Pixel = Convert.FromBase64String("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=");

    private readonly Adpm _adpm = new();

    public void Dispose() => _adpm.Dispose();

    [Fact]
    public async Task Report_TellsTheVerdict_AndWritesPageAndNumbers()
    {
        Write("stylize-0a1b2c3d", Report("stylize", 3));
        Verified.Equal(_adpm.Text("report stylize --data .", await _adpm.RunAsync("report stylize --data .")), "report");
        var page = Page("experiments/stylize-0a1b2c3d/report.html");
        Assert.Equal(Sections, page.Descendants("h2").Select(heading => heading.Value));
        Assert.Equal(4, page.Descendants("img").Count());
        Assert.All(page.Descendants("img"), picture => Assert.StartsWith("data:image/png;base64,", (string?)picture.Attribute("src"), StringComparison.Ordinal));
        var numbers = JsonNode.Parse(File.ReadAllText(Path.Combine(_adpm.Folder, "experiments/stylize-0a1b2c3d/report.verdict.json")))!;
        Assert.Equal("adjointdpm.dev/report/v1", (string?)numbers["schema"]);
        Assert.Equal((1, 1.9, 0.5), ((int)numbers["experiments"]![0]!["bestTrial"]!, (double)numbers["experiments"]![0]!["before"]!, (double)numbers["experiments"]![0]!["after"]!));
        // The record itself is left as it is.
        Assert.Equal(Report("stylize", 3).ToJsonString(), JsonNode.Parse(File.ReadAllText(Path.Combine(_adpm.Folder, "experiments/stylize-0a1b2c3d/report.json")))!.ToJsonString());
    }

    [Fact]
    public async Task Page_NeedsNothingBesideIt_AndHoldsNoMarkupOfOthers()
    {
        const string Evil = "</title><script src=\"https://evil.example/x.js\">alert(1)</script>";
        Write("evil-1", Report(Evil, 2));
        Assert.Equal(0, await _adpm.RunAsync("report evil-1 --data ."));
        var page = Page("experiments/evil-1/report.html");
        Assert.Equal(Evil, page.Descendants("h1").Single().Value);
        Assert.Single(page.Descendants("script"));
        foreach (var attribute in page.Descendants().Attributes().Where(attribute => attribute.Name.LocalName is "src" or "href"))
            Assert.StartsWith("data:", attribute.Value, StringComparison.Ordinal);
        // Characters that XML escapes and HTML leaves alone would break both.
        Assert.All(page.Descendants().Where(element => element.Name.LocalName is "script" or "style"), element => Assert.DoesNotContain(element.Value, c => c is '<' or '>' or '&'));
        Assert.DoesNotContain("@import", page.Descendants("style").Single().Value, StringComparison.Ordinal);
    }

    [Fact]
    public async Task SeveralObjectives_GiveAParetoFront_AndSeveralExperimentsOneChart()
    {
        var report = Report("front", 4);
        report["spec"]!["objectives"] = new JsonArray(new JsonObject { ["metric"] = "heldOut.loss.after", ["goal"] = "minimize" }, new JsonObject { ["metric"] = "loss", ["goal"] = "minimize" });
        report["front"] = new JsonArray(1, 2);
        for (var trial = 0; trial < 4; trial++)
            report["trials"]![trial]!["metrics"]!["loss"] = 4.0 - trial;
        Write("front-1", report);
        Write("other-1", Report("other", 2));
        Assert.Equal(0, await _adpm.RunAsync("report front-1 --data ."));
        var page = Page("experiments/front-1/report.html");
        Assert.Contains("Pareto front", page.Descendants("h3").Select(heading => heading.Value));
        var chart = page.Descendants("svg").Single(svg => (string?)svg.Attribute("aria-label") == "loss by heldOut.loss.after");
        Assert.Equal(2, chart.Descendants("circle").Count(dot => (string?)dot.Attribute("class") == "dot best"));
        Assert.Equal(4, chart.Descendants("circle").Count());

        Assert.Equal(0, await _adpm.RunAsync("report front-1 other-1 --data . -o both.html"));
        var both = Page("both.html");
        Assert.Equal(2, both.Descendants("svg").Single(svg => (string?)svg.Attribute("aria-label") == "Training loss of the best trial of each experiment").Descendants("polyline").Count());
        Assert.Contains("Samples of the best trials", both.Descendants("h2").Select(heading => heading.Value));
    }

    [Theory]
    [InlineData(1, 0), InlineData(2, 2), InlineData(7, 3)]
    public async Task AnyNumberOfTrials_AlsoNoneThatSucceeded_GivesAPage(int trials, int failed)
    {
        Write("some-1", Report("some", trials, failed));
        Assert.Equal(0, await _adpm.RunAsync("report some-1 --data ."));
        var page = Page("experiments/some-1/report.html");
        Assert.Equal(Sections, page.Descendants("h2").Select(heading => heading.Value));
        Assert.Equal(failed == trials, page.ToString().Contains("No trial succeeded", StringComparison.Ordinal));
        Assert.DoesNotContain("NaN", string.Concat(page.Descendants("svg").Attributes().Concat(page.Descendants("svg").Descendants().Attributes()).Select(attribute => attribute.Value)), StringComparison.Ordinal);
    }

    /// <summary>How an attack fared is told with its intervals, and is neither better nor worse; an estimate is measured, not proven.</summary>
    [Fact]
    public async Task Attack_HasASectionOfItsOwn_AndAnEstimateIsNotCalledProven()
    {
        var report = Report("attack", 1);
        var trial = report["trials"]![0]!;
        foreach (var (name, value) in Samples.Attack)
            trial["metrics"]![name] = value;
        (trial["metrics"]!["heldOut.audit.success.before"], trial["metrics"]!["heldOut.audit.success.after"]) = (0, 0.7);
        (trial["metrics"]!["heldOut.distance.before"], trial["metrics"]!["heldOut.distance.after"]) = (0, 0.3);
        (trial["metrics"]!["heldOut.diversity.before"], trial["metrics"]!["heldOut.diversity.after"]) = (0.5, 0.1);
        trial["cost"]!["trainingSeconds"] = 140;
        trial["cost"]!["peakLiveBytes"] = 12_000_000;
        trial["proof"] = new JsonObject { ["method"] = "refl", ["exact"] = false, ["passed"] = true, ["cosine"] = 0.4567, ["normRatio"] = 0.25, ["relativeError"] = 0.9, ["isEstimate"] = true };
        Write("attack-1", report);
        Assert.Equal(0, await _adpm.RunAsync("report attack-1 --data ."));
        var page = Page("experiments/attack-1/report.html");
        Assert.Equal("The attack", page.Descendants("h2").Select(heading => heading.Value).Except(Sections).Single());
        var cells = page.Descendants("section").Single(section => section.Element("h2")?.Value == "The attack").Descendants("td").Select(cell => cell.Value).ToList();
        Assert.Contains("87.5 % (28 of 32; 95 %: 71.9 % to 95.0 %)", cells.Select(cell => cell.Replace('\u00a0', ' ')));
        Assert.Contains("5.000", cells);
        Assert.Contains("measured", page.Descendants("td").Select(cell => cell.Value));
        Assert.Contains("12.0 MB", page.Descendants("td").Select(cell => cell.Value));
        var sentences = JsonNode.Parse(File.ReadAllText(Path.Combine(_adpm.Folder, "experiments/attack-1/report.verdict.json")))!["experiments"]![0]!;
        Assert.Equal((0, 0), ((int)sentences["proven"]!, (int)sentences["checked"]!));
        var told = string.Join('\n', sentences["sentences"]!.AsArray().Select(sentence => (string)sentence!));
        Assert.Contains("The gradient refl is an estimate for training, not the gradient of the sampler: measured once, its cosine to the unrolled gradient is 0.457", told, StringComparison.Ordinal);
        Assert.DoesNotContain("proof", told, StringComparison.Ordinal);
        Assert.Equal(["heldOut.diversity"], sentences["gotWorse"]!.AsArray().Select(change => (string)change!["name"]!));
    }

    [Fact]
    public async Task ThousandTrials_StayAPageThatCanBeMailed()
    {
        Write("many-1", Report("many", 1000, 13));
        Assert.Equal(0, await _adpm.RunAsync("report many-1 --data ."));
        Assert.InRange(new FileInfo(Path.Combine(_adpm.Folder, "experiments/many-1/report.html")).Length, 100_000, 10_000_000);
        var page = Page("experiments/many-1/report.html");
        Assert.Equal(100, page.Descendants("section").ElementAt(1).Descendants("polyline").Count());
        Assert.Equal(987, page.Descendants("section").ElementAt(4).Descendants("polyline").Count());
    }

    [Fact]
    public async Task Several_AreCompared_WithWhatTheirSpecsDifferIn()
    {
        Write("a-1", Report("a", 2));
        var other = Report("b", 3);
        other["spec"]!["training"]!["steps"] = 40;
        Write("b-1", other);
        Assert.Equal(0, await _adpm.RunAsync("report a-1 b-1 --data . -o compared.html"));
        var page = Page("compared.html");
        Assert.Contains(page.Descendants("tr"), row => row.Elements().Select(cell => cell.Value).SequenceEqual(["training.steps", "20", "40"]));
        Assert.Equal(2, page.Descendants("details").Count(details => details.Element("summary")!.Value is "a-1" or "b-1"));
        Assert.Equal(page.Descendants().Attributes("id").Count(), page.Descendants().Attributes("id").Select(id => id.Value).Distinct().Count());
        Assert.True(File.Exists(Path.Combine(_adpm.Folder, "compared.json")));
    }

    [Theory]
    [InlineData("nothing --data .", "There is no experiment 'nothing'.")]
    [InlineData("running-1 --data .", "has no report.json, which is written when an experiment ends.")]
    [InlineData("cut-1 --data .", "report.json' cannot be read: ")]
    [InlineData("newer-1 --data .", "report.json' has schema 2; this adpm reads schema 1.")]
    [InlineData("good-1 --data . -o no/such/folder/x.html", "no/such/folder/x.html' cannot be written: ")]
    public async Task WhatCannotBeReported_IsSaid(string line, string expected)
    {
        Write("good-1", Report("good", 1));
        Directory.CreateDirectory(Path.Combine(_adpm.Folder, "experiments", "running-1"));
        Write("cut-1", Report("cut", 1));
        var cut = Path.Combine(_adpm.Folder, "experiments", "cut-1", "report.json");
        File.WriteAllText(cut, File.ReadAllText(cut)[..200]);
        var newer = Report("newer", 1);
        newer["schema"] = 2;
        Write("newer-1", newer);
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("report " + line));
        Assert.Contains(expected, _adpm.Error.ToString(), StringComparison.Ordinal);
    }

    private XElement Page(string path) => XElement.Parse(File.ReadAllText(Path.Combine(_adpm.Folder, path)).Replace("<!doctype html>", ""));

    private void Write(string id, JsonObject report)
    {
        var folder = Directory.CreateDirectory(Path.Combine(_adpm.Folder, "experiments", id)).FullName;
        report["experiment"]!["id"] = id;
        File.WriteAllText(Path.Combine(folder, "report.json"), report.ToJsonString());
        report["experiment"]!["id"] = "";
        foreach (var trial in new[] { 0, 1 })
        {
            var place = Directory.CreateDirectory(Path.Combine(folder, $"trial-{trial}")).FullName;
            File.WriteAllBytes(Path.Combine(place, "before.png"), Pixel);
            File.WriteAllBytes(Path.Combine(place, "after.png"), Pixel);
        }
    }

    private static JsonObject Report(string name, int trials, int failed = 0) => new()
    {
        ["schema"] = 1,
        ["experiment"] = new JsonObject { ["id"] = "stylize-0a1b2c3d", ["name"] = name, ["state"] = failed == trials ? "failed" : "succeeded", ["submittedAt"] = "2026-07-22T11:00:00+00:00", ["endedAt"] = "2026-07-22T11:02:06+00:00" },
        ["reason"] = failed == trials ? "None of the trials succeeded." : null,
        ["spec"] = JsonNode.Parse("""{"model":{"path":"/m","dtype":"float32"},"losses":[{"name":"cross-entropy","weight":1,"classifier":"/c"}],"heldOut":{"classifier":"/j","samples":50},"training":{"steps":20},"objective":{"metric":"heldOut.loss.after","goal":"minimize"}}"""),
        ["specSha256"] = new string('d', 64),
        ["objective"] = new JsonObject { ["metric"] = "heldOut.loss.after", ["goal"] = "minimize", ["bestTrial"] = failed == trials ? null : trials > 1 && failed == 0 ? 1 : failed, ["bestValue"] = null },
        ["seeds"] = new JsonObject { ["training"] = 1, ["search"] = null },
        ["resources"] = new JsonObject { ["device"] = "cpu", ["threads"] = 1 },
        ["modelSha256"] = new string('e', 64),
        ["versions"] = new JsonObject { ["adjointDpm"] = "0.1.0" },
        ["trials"] = new JsonArray([.. Enumerable.Range(0, trials).Select(trial => Trial(trial, trial < failed))]),
    };

    private static JsonObject Trial(int index, bool failed) => new()
    {
        ["index"] = index,
        ["state"] = failed ? "failed" : "succeeded",
        ["reason"] = failed ? "Step 2: the gradient's norm is NaN." : null,
        ["parameters"] = new JsonObject { ["optimizer.learningRate"] = (0.001 * (index + 1)).ToString(CultureInfo.InvariantCulture), ["sample.solver"] = index % 2 == 0 ? "ddim" : "heun" },
        ["step"] = failed ? 1 : 20,
        ["steps"] = 20,
        ["metrics"] = failed ? new JsonObject() : new JsonObject { ["heldOut.loss.before"] = 1.9, ["heldOut.loss.after"] = index == 1 ? 0.5 : 0.6 + (index * 0.01), ["heldOut.accuracy.before"] = 1, ["heldOut.accuracy.after"] = 0.86 },
        ["parametersSha256"] = new string((char)('a' + (index % 6)), 64),
        ["proof"] = JsonNode.Parse("""{"method":"discrete","exact":true,"passed":true,"cosine":0.9999999999999993,"normRatio":1,"relativeError":1.3e-16,"finding":null}"""),
        ["lossHistory"] = new JsonArray([.. Enumerable.Range(0, failed ? 1 : 20).Select(step => failed ? JsonValue.Create("NaN") : JsonValue.Create(Math.Exp(-step / 7.0)))]),
        ["seconds"] = 31.5,
        ["shardsReissued"] = 0,
        ["cost"] = new JsonObject { ["samples"] = 292, ["forwardNfe"] = 592, ["workerSeconds"] = 47.3 },
    };
}
