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
        Assert.All(page.Descendants().Attributes("src"), source => Assert.StartsWith("data:", source.Value, StringComparison.Ordinal));
        // A picture leads to its file beside the page, and nothing leads elsewhere.
        Assert.All(page.Descendants().Attributes("href"), link => Assert.True(File.Exists(Path.Combine(_adpm.Folder, "experiments/evil-1", link.Value)), link.Value));
        Assert.Equal(4, page.Descendants().Attributes("href").Count());
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
    [InlineData("-o experiments/kept-1/report.html", 0), InlineData("-o experiments/kept-1/report.htm", 0), InlineData("-o experiments/kept-1/report", 0)]
    [InlineData("-o experiments/kept-1/report.json", ExitCodes.Invalid), InlineData("-o experiments/kept-1/REPORT.JSON", ExitCodes.Invalid)]
    public async Task NoNameOfThePage_CostsTheRecord(string output, int exitCode)
    {
        Write("kept-1", Report("kept", 2));
        var record = Path.Combine(_adpm.Folder, "experiments/kept-1/report.json");
        var before = File.ReadAllText(record);
        Assert.Equal(exitCode, await _adpm.RunAsync("report kept-1 --data . " + output));
        Assert.Equal(before, File.ReadAllText(record));
        Assert.Equal(exitCode == 0, File.Exists(Path.Combine(_adpm.Folder, "experiments/kept-1/report.verdict.json")));
    }

    [Fact]
    public async Task WhatGotWorse_IsJudgedByTheGoals_AndNotByNames()
    {
        // An audit: that attacks succeed, and that noise moves for it, is what was wanted.
        var report = Report("audit", 2);
        report["objective"]!["metric"] = "audit.rate.after";
        report["objective"]!["goal"] = "maximize";
        report["spec"]!["objectives"] = new JsonArray(new JsonObject { ["metric"] = "audit.rate.after", ["goal"] = "maximize" }, new JsonObject { ["metric"] = "heldOut.style.after", ["goal"] = "minimize" });
        foreach (var (name, before, after) in new[] { ("audit.rate", 0.1, 0.9), ("heldOut.audit.success", 1, 9), ("heldOut.noise.l2", 0, 3.5), ("heldOut.accuracy", 1, 0.2), ("heldOut.rewardScore", 2, 1), ("heldOut.style", 0.5, 0.7), ("loss", 1.9, 0.5) })
            foreach (var trial in report["trials"]!.AsArray())
                (trial!["metrics"]![name + ".before"], trial["metrics"]![name + ".after"]) = (before, after);
        Write("audit-1", report);
        Assert.Equal(0, await _adpm.RunAsync("report audit-1 --data . --json"));
        var verdict = JsonNode.Parse(_adpm.Out.ToString())!["experiments"]![0]!;
        Assert.Equal(["heldOut.style"], verdict["gotWorse"]!.AsArray().Select(change => (string?)change!["name"]));
        // The loss is noted under two names, and told once.
        var rows = Page("experiments/audit-1/report.html").Descendants("tr").Select(row => row.Elements().Select(cell => cell.Value).ToArray()).Where(row => row.Length == 4).ToList();
        Assert.Single(rows, row => row[0].EndsWith("loss", StringComparison.Ordinal));
        Assert.Contains(rows, row => row[0] == "audit.rate" && row[3] == "+800 % better");
        Assert.Contains(rows, row => row[0] == "heldOut.noise.l2" && row[3] == "");
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
        // The best of the 987 that succeeded, and others evenly.
        Assert.Equal(300, page.Descendants("section").ElementAt(4).Descendants("polyline").Count());
    }

    [Fact]
    public async Task ManyParameters_StayAPageThatCanBeMailed()
    {
        var report = Report("wide", 2000);
        foreach (var trial in report["trials"]!.AsArray())
            for (var parameter = 0; parameter < 60; parameter++)
                trial!["parameters"]![$"losses[{parameter}].weight"] = (((int)trial["index"]! * 37 % 1009) * (parameter + 1) / 1000.0).ToString(CultureInfo.InvariantCulture);
        Write("wide-1", report);
        Write("wide-2", report);
        Assert.Equal(0, await _adpm.RunAsync("report wide-1 --data ."));
        Assert.InRange(new FileInfo(Path.Combine(_adpm.Folder, "experiments/wide-1/report.html")).Length, 100_000, 5_000_000);
        Assert.Contains("Of 62 parameters the 24 whose means differ most.", Page("experiments/wide-1/report.html").Value, StringComparison.Ordinal);
        Assert.Equal(0, await _adpm.RunAsync("report wide-1 wide-2 --data . -o both.html"));
        Assert.InRange(new FileInfo(Path.Combine(_adpm.Folder, "both.html")).Length, 100_000, 5_000_000);
    }

    [Fact]
    public async Task Parameters_AreShownByTheMeansOfTheirParts_WithHowManyThereAre()
    {
        Write("many-2", Report("many", 100));
        Assert.Equal(0, await _adpm.RunAsync("report many-2 --data ."));
        var page = Page("experiments/many-2/report.html");
        // Of the learning rate a hundred values in parts of as many trials, of the solver two words.
        string[] Counts(string chart) => [.. page.Descendants("svg").Single(svg => (string?)svg.Attribute("aria-label") == chart).Descendants("text").Select(text => text.Value).Where(text => text.StartsWith("n ", StringComparison.Ordinal))];
        Assert.Equal(["n 13", "n 13", "n 13", "n 13", "n 13", "n 13", "n 13", "n 9"], Counts("heldOut.loss.after by optimizer.learningRate"));
        Assert.Equal(["n 50", "n 50"], Counts("heldOut.loss.after by sample.solver"));
        // 0.6 + index / 100 over the even trials; the odd ones the same but the best, which has 0.5 in place of 0.61.
        var means = page.Descendants("svg").Single(svg => (string?)svg.Attribute("aria-label") == "heldOut.loss.after by sample.solver").Descendants("title").Select(title => title.Value).Where(title => title.StartsWith("mean", StringComparison.Ordinal)).ToList();
        Assert.Equal(["mean 1.090 ± 0.04123, n = 50", "mean 1.098 ± 0.04182, n = 50"], means);
    }

    [Fact]
    public async Task LargePictures_BecomeSmallOnesThatLeadToTheirFiles()
    {
        Write("large-1", Report("large", 2));
        var random = new Random(3);
        using (var noise = new SkiaSharp.SKBitmap(900, 700))
        {
            // Noise, which no format makes small.
            noise.Pixels = [.. Enumerable.Range(0, 900 * 700).Select(_ => new SkiaSharp.SKColor((uint)random.Next() | 0xff000000))];
            using var png = noise.Encode(SkiaSharp.SKEncodedImageFormat.Png, 100);
            File.WriteAllBytes(Path.Combine(_adpm.Folder, "experiments/large-1/trial-1/before.png"), png.ToArray());
        }
        Assert.Equal(0, await _adpm.RunAsync("report large-1 --data . -o x.html"));
        var page = Page("x.html");
        Assert.InRange(new FileInfo(Path.Combine(_adpm.Folder, "x.html")).Length, 1000, 1_000_000);
        var large = page.Descendants("a").Single(link => link.Element("img")!.Attribute("src")!.Value.StartsWith("data:image/webp", StringComparison.Ordinal));
        Assert.Equal("experiments/large-1/trial-1/before.png", (string?)large.Attribute("href"));
        using var shown = SkiaSharp.SKBitmap.Decode(Convert.FromBase64String(large.Element("img")!.Attribute("src")!.Value.Split(',')[1]));
        Assert.Equal(900.0 / 700, (double)shown.Width / shown.Height, 0.01);
        Assert.Contains("Large pictures are shown smaller; each leads to its file.", page.Value, StringComparison.Ordinal);
    }

    [Fact]
    public async Task PicturesThatCannotBeShown_AreNotSaidToBeMissing()
    {
        Write("broken-1", Report("broken", 1));
        File.WriteAllBytes(Path.Combine(_adpm.Folder, "experiments/broken-1/trial-0/before.png"), new byte[300_000]);
        Directory.Delete(Path.Combine(_adpm.Folder, "experiments/broken-1/trial-1"), recursive: true);
        Assert.True(await _adpm.RunAsync("report broken-1 --data .") == 0, _adpm.Error.ToString());
        Assert.Contains("1 trial left pictures that are too large for this page or cannot be read", Page("experiments/broken-1/report.html").Value, StringComparison.Ordinal);
    }

    [Fact]
    public async Task StepsOfTheBest_AreDrawn_WithPicturesOnTheWay_TimeAndMemoryBesideThePlan()
    {
        var report = Report("steps", 2);
        var trial = report["trials"]![1]!;
        trial["cost"] = JsonNode.Parse("""{"samples":292,"forwardNfe":592,"workerSeconds":47.3,"sampleSeconds":20,"lossSeconds":2.3,"adjointSeconds":25,"peakLiveBytes":90000000,"plannedBytes":100000000,"hardware":["A processor, 2 threads"],"times":{"load":1,"prove":5,"evaluate":4,"shards":20,"reduce":0.5,"optimize":0.2,"commit":0.3,"draw":0,"save":2}}""");
        report["hardware"] = new JsonArray("A processor, 2 threads");
        report["command"] = "adpm run steps.yaml --set training.steps=6";
        report["labels"] = new JsonObject { ["team"] = "vision" };
        trial["history"] = new JsonArray([.. Enumerable.Range(0, 7).Select(step => (JsonNode)new JsonObject
        {
            ["step"] = step,
            ["metrics"] = step == 0 ? new JsonObject() : new JsonObject { ["loss"] = 2.0 / step, ["reward"] = 0.3 * step, ["style"] = 1.0 / step, ["gradientNorm"] = 3.0 },
            ["profile"] = new JsonObject
            {
                ["step"] = step, ["heldOut"] = step % 2 == 0 ? new JsonObject { ["loss"] = 2.5 - (step * 0.1), ["accuracy"] = 1 - (step * 0.05) } : null, ["adjointNorms"] = step == 0 ? null : new JsonArray(1.0, 2.0, 4.0),
                ["times"] = step == 0 ? null : JsonNode.Parse("""{"shards":3,"reduce":0.1,"optimize":0.1,"commit":0.1}"""), ["peakBytes"] = step == 0 ? null : 90_000_000, ["picture"] = step % 3 == 0 ? new string('c', 64) : null,
            },
        })]);
        Write("steps-1", report);
        var steps = Directory.CreateDirectory(Path.Combine(_adpm.Folder, "experiments/steps-1/trial-1/steps")).FullName;
        foreach (var step in new[] { 0, 3, 6 })
            File.WriteAllBytes(Path.Combine(steps, $"{step:d6}.png"), Pixel);
        Assert.Equal(0, await _adpm.RunAsync("report steps-1 --data ."));
        var page = Page("experiments/steps-1/report.html");
        var charts = page.Descendants("svg").Select(svg => (string?)svg.Attribute("aria-label")).ToList();
        foreach (var expected in new[] { "loss by step", "reward by step", "style by step", "held-out accuracy by reward in training", "Norm of the gradient at each point of the way from noise to sample, by step", "Seconds of a trial by what it waited for", "Most megabytes of a shard by step" })
            Assert.Contains(expected, charts);
        Assert.Equal(["0", "3", "6"], page.Descendants().Attributes("data-step").Select(step => step.Value));
        Assert.Contains("Shards held 90 % to 90 % of what was planned for them.", page.Value, StringComparison.Ordinal);
        Assert.Contains(page.Descendants("tr"), row => row.Value.Contains("90.0 MB100 MB", StringComparison.Ordinal));
        foreach (var expected in new[] { "A processor, 2 threads", "adpm run steps.yaml --set training.steps=6", "team=vision" })
            Assert.Contains(expected, page.Value, StringComparison.Ordinal);
        Assert.DoesNotContain("Bytes of memory were not", page.Value, StringComparison.Ordinal);
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
        Assert.True(File.Exists(Path.Combine(_adpm.Folder, "compared.verdict.json")));
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

    internal static JsonObject Report(string name, int trials, int failed = 0) => new()
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
