using System.Text.Json.Nodes;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Rendering.Pictures;
using AdjointDpm.Grains.Experiments;
using SkiaSharp;
using Spectre.Console;
using Spectre.Console.Testing;

namespace AdjointDpm.Client.Tests.Commands;

/// <summary>Commands that list and compare.</summary>
public sealed class LookingCommandTests : IDisposable
{
    private const string Id = "stylize-0a1b2c3d";

    private readonly Adpm _adpm = new();

    public LookingCommandTests()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Ended(folder: Path.Combine(_adpm.Folder, "experiments", Id));
        _adpm.Cluster.Events.AddRange(Samples.Events());
        _adpm.Cluster.Workers.Add(Samples.Worker("silo-0/cpu:0", false, Samples.Shard(3, 1)));
        _adpm.Cluster.Workers.Add(Samples.Worker("silo-1/cpu:0", true));
        _adpm.Cluster.Logs.AddRange(Enumerable.Range(1, 3).SelectMany(i => new[] { 0, 1 }.Select(silo => new AdjointDpm.Grains.Workers.SiloMessage($"silo-{silo}", i, Samples.Noon.AddSeconds(i), i == 2 ? "warn" : "info", $"A: message {i} of stylize-{silo}"))));
        _adpm.Cluster.Steps.AddRange(Enumerable.Range(1, 5).Select(step => new TrialStep(step, new Dictionary<string, double> { ["loss"] = 5.0 / step, ["gradientNorm"] = step }, new StepProfile { Step = step, AdjointNorms = [4, 2, 1], HeldOut = step == 5 ? new Dictionary<string, double> { ["loss"] = 1.25 } : null })));
    }

    public void Dispose() => _adpm.Dispose();

    [Theory]
    [InlineData("trials stylize", "trials")]
    [InlineData("trials stylize --where state=succeeded -w learningRate>1e-4 --sort heldOut.loss.after -o csv", "trials-csv")]
    [InlineData("trials stylize --sort index --descending --limit 2 -o name", "trials-name")]
    [InlineData("trials stylize -o wide", "trials-wide")]
    [InlineData("trials stylize -w learningRate", "trials-invalid")]
    [InlineData("events stylize --limit 3", "events")]
    [InlineData("events stylize/0 --json", "events-json")]
    [InlineData("diff stylize stylize/2", "diff")]
    [InlineData("diff stylize/0 stylize/1 --json", "diff-json")]
    [InlineData("diff stylize/0 stylize/7", "diff-none")]
    [InlineData("show stylize/1", "show-trial")]
    [InlineData("top", "top")]
    [InlineData("ls -o csv", "ls-csv")]
    [InlineData("ls -o name", "ls-name")]
    [InlineData("workers -o wide", "workers-wide")]
    [InlineData("workers -o csv", "workers-csv")]
    [InlineData("logs --gateway far:30000 --limit 2", "logs-elsewhere")]
    [InlineData("logs stylize-1 --gateway far:30000 --limit 1 --json", "logs-elsewhere-json")]
    [InlineData("grid stylize", "grid-none")]
    public async Task Output_IsAsVerified(string line, string name) => Verified.Equal(_adpm.Text(line, await _adpm.RunAsync(line)), name);

    [Fact]
    public async Task Trials_AsJson_HaveASchema_AndAllPages()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Ended() with { Trials = [.. Enumerable.Range(0, 2500).Select(i => Samples.Trial(i, RunState.Queued, 1e-4, 0))] };
        Assert.Equal(0, await _adpm.RunAsync("trials stylize --json --limit 2400 --where index>=50"));
        var document = JsonNode.Parse(_adpm.Out.ToString())!;
        Assert.Equal(("adjointdpm.dev/trials/v1", 2450, 2400), ((string?)document["schema"], (int)document["matched"]!, document["trials"]!.AsArray().Count));
        Assert.Equal(50, (int)document["trials"]![0]!["index"]!);
    }

    [Fact]
    public async Task Events_Followed_GoOnThroughALostConnection_WithoutOneTwice()
    {
        _adpm.Cluster.Experiments[Id] = Samples.Running() with { Sequence = 2 };
        var lost = false;
        _adpm.Cluster.BeforeEvent = happened =>
        {
            if (happened.Sequence == 5 && !lost)
            {
                lost = true;
                throw new ClusterUnreachableException("The cluster at x stopped to answer.");
            }
            if (happened.Kind == EventKind.ExperimentEnded) _adpm.Cluster.Experiments[Id] = Samples.Ended();
        };
        // Of the seven events two had happened when it was asked.
        var all = _adpm.Cluster.Events.ToList();
        _adpm.Cluster.Happened = 2;
        var running = _adpm.RunAsync("events stylize --follow");
        // Too slowly for patience to run out, however long the follower is kept waiting.
        while (!running.IsCompleted)
        {
            _adpm.Time.Advance(TimeSpan.FromMilliseconds(20));
            await Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System, TestContext.Current.CancellationToken);
        }
        Assert.Equal(0, await running);
        Assert.Equal(all.Count, _adpm.Out.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
        Assert.Contains("Trying again.", _adpm.Error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Logs_AreThoseOfTheFolder_MessageByMessage_AndByWord()
    {
        var logs = Directory.CreateDirectory(Path.Combine(_adpm.Folder, "runs", "logs")).FullName;
        await File.WriteAllTextAsync(Path.Combine(logs, "silo-0.log"), "info: A[0]\n      begun stylize-1/0\nwarn: B[0]\n      slow\nhalf a li", TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(Path.Combine(logs, "silo-1.log"), "info: A[0]\n      begun other-1/0\n", TestContext.Current.CancellationToken);
        Assert.Equal(0, await _adpm.RunAsync("logs --data runs"));
        Assert.Equal("silo-0  info: A[0] begun stylize-1/0\nsilo-0  warn: B[0] slow\nsilo-1  info: A[0] begun other-1/0\n", _adpm.Out.ToString());
        _adpm.Out.GetStringBuilder().Clear();
        Assert.Equal(0, await _adpm.RunAsync("logs stylize-1 --data runs --silo silo-0"));
        Assert.Equal("info: A[0] begun stylize-1/0\n", _adpm.Out.ToString());
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("logs --data runs --silo none"));
    }

    [Fact]
    public async Task Grid_LaysTrialsByTheirParameters()
    {
        foreach (var (trial, color) in new[] { (0, SKColors.Red), (1, SKColors.Lime) })
        {
            var folder = Directory.CreateDirectory(Path.Combine(_adpm.Folder, "experiments", Id, $"trial-{trial}")).FullName;
            using var picture = new SKBitmap(6, 4);
            picture.Erase(color);
            using var encoded = picture.Encode(SKEncodedImageFormat.Png, 100);
            await File.WriteAllBytesAsync(Path.Combine(folder, "after.png"), encoded.ToArray(), TestContext.Current.CancellationToken);
        }
        Assert.Equal(0, await _adpm.RunAsync("grid stylize --x learningRate --into grid.png"));
        Verified.Equal(_adpm.Text("grid stylize --x learningRate --into grid.png", 0), "grid");
        using var sheet = SKBitmap.Decode(Path.Combine(_adpm.Folder, "grid.png"));
        // Two pictures sixteen times as large beside each other, below what they are.
        Assert.Equal((96 + 4 + 96, 18 + 64, SKColors.Red, SKColors.White, SKColors.Lime), (sheet.Width, sheet.Height, sheet.GetPixel(0, 18), sheet.GetPixel(98, 40), sheet.GetPixel(195, 81)));
        Assert.Contains(Enumerable.Range(0, 96 * 14).Select(i => sheet.GetPixel(i % 96, i / 96)), color => color == SKColors.Black);
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync("grid stylize --y rank"));
    }

    [Fact]
    public async Task ResultsElsewhere_AreFetchedInParts_ByTheirSha256()
    {
        using var red = new SKBitmap(6, 4);
        red.Erase(SKColors.Red);
        using var png = red.Encode(SKEncodedImageFormat.Png, 100);
        _adpm.Cluster.Experiments[Id] = Samples.Ended(folder: "/nowhere/experiments/" + Id);
        _adpm.Cluster.PartBytes = 7;
        foreach (var trial in new int?[] { 0, 1 })
            foreach (var name in new[] { "before.png", "after.png", "before-after.png" })
                _adpm.Cluster.Files[(trial, name)] = png.ToArray();
        _adpm.Cluster.Files[(null, "report.json")] = System.Text.Encoding.UTF8.GetBytes(ReportCommandTests.Report("stylize", 2).ToJsonString());
        Assert.Equal(0, await _adpm.RunAsync("grid stylize --gateway far:1 --into grid.png"));
        using (var sheet = SKBitmap.Decode(Path.Combine(_adpm.Folder, "grid.png")))
            Assert.Equal(SKColors.Red, sheet.GetPixel(1, 19));
        Assert.Equal(0, await _adpm.RunAsync("show stylize/1 --gateway far:1"));
        Assert.Contains("Before and after", _adpm.Out.ToString(), StringComparison.Ordinal);
        Assert.Equal(0, await _adpm.RunAsync("diff stylize/0 stylize/1 --gateway far:1"));
        Assert.Equal(0, await _adpm.RunAsync("report stylize --gateway far:1"));
        var page = await File.ReadAllTextAsync(Path.Combine(_adpm.Folder, "stylize-0a1b2c3d.html"), TestContext.Current.CancellationToken);
        Assert.Equal(4, page.Split("data:image/png").Length - 1);
        // It leads to no folder that is gone.
        Assert.DoesNotContain("href=", page, StringComparison.Ordinal);

        _adpm.Cluster.Changed = true;
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync("grid stylize --gateway far:1"));
        Assert.Contains("is not what its manifest says: its SHA-256 is another.", _adpm.Error.ToString(), StringComparison.Ordinal);
        _adpm.Cluster.Changed = false;
        _adpm.Cluster.Files[(0, "../../evil.png")] = png.ToArray();
        Assert.Equal(ExitCodes.Failed, await _adpm.RunAsync($"pull {Id}/0 out --as lora --gateway far:1"));
        Assert.DoesNotContain("evil", string.Join(' ', Directory.GetFileSystemEntries(Path.GetTempPath()).Select(Path.GetFileName)), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Labels_AreShown_AndFiltered()
    {
        for (var i = 0; i < 3; i++)
        {
            var summary = Samples.Summary($"digits-0000000{i}", RunState.Running, 1, 0, 5) with { Labels = new Dictionary<string, string> { ["team"] = i < 2 ? "vision" : "sound", ["number"] = $"{i}" } };
            _adpm.Cluster.Experiments[summary.Id] = Samples.Running(summary.Id) with { Summary = summary };
        }

        Assert.Equal(0, await _adpm.RunAsync("ls --label team=vision --label number=1 -o name"));
        Assert.Equal("digits-00000001\n", _adpm.Out.ToString());
        Assert.Equal(0, await _adpm.RunAsync("ls --label team=vision --limit 1 --json"));
        Assert.Contains("\"team\": \"vision\"", _adpm.Out.ToString(), StringComparison.Ordinal);
        _adpm.Out.GetStringBuilder().Clear();
        Assert.Equal(0, await _adpm.RunAsync("ls --label team=sound -o wide"));
        Assert.Contains("number=2 team=sound", _adpm.Out.ToString(), StringComparison.Ordinal);
        Assert.Equal(0, await _adpm.RunAsync("show digits-00000002"));
        Assert.Contains("\nnumber=2 team=sound\n", _adpm.Out.ToString(), StringComparison.Ordinal);
        Assert.Equal(ExitCodes.Invalid, await _adpm.RunAsync("ls --label team"));
    }

    [Theory]
    [InlineData("top --json", "adjointdpm.dev/top/v1")]
    [InlineData("grid stylize --json", "adjointdpm.dev/grid/v1")]
    [InlineData("logs --data . --json", "adjointdpm.dev/log/v1")]
    [InlineData("init guide guide.yaml --json", "adjointdpm.dev/files/v1")]
    [InlineData("certificates certs --json", "adjointdpm.dev/files/v1")]
    [InlineData("users add users.txt ana --project a --role view --token-file token --json", "adjointdpm.dev/files/v1")]
    public async Task Json_IsOneDocumentWithASchema(string line, string schema)
    {
        var folder = Directory.CreateDirectory(Path.Combine(_adpm.Folder, "experiments", Id, "trial-0")).FullName;
        using (var picture = new SKBitmap(6, 4))
        using (var png = picture.Encode(SKEncodedImageFormat.Png, 100))
            await File.WriteAllBytesAsync(Path.Combine(folder, "after.png"), png.ToArray(), TestContext.Current.CancellationToken);
        Directory.CreateDirectory(Path.Combine(_adpm.Folder, "logs"));
        await File.WriteAllTextAsync(Path.Combine(_adpm.Folder, "logs", "silo-0.log"), "info: A\n", TestContext.Current.CancellationToken);
        Assert.Equal(0, await _adpm.RunAsync(line));
        Assert.Equal(schema, (string?)JsonNode.Parse(_adpm.Out.ToString())!["schema"]);
    }

    [Fact]
    public void Grid_InTheTerminal_HasHeadsOfRowsAndColumns_AndGaps()
    {
        GridCell Cell(SKColor color)
        {
            var picture = new SKBitmap(8, 4);
            picture.Erase(color);
            return new GridCell("", picture);
        }

        using var grid = new PictureGrid(["rate=1", "rate=a-long-one"], ["rank=4", "rank=8"], 2, [Cell(SKColors.Red), Cell(SKColors.Lime), null, Cell(SKColors.Blue)]);
        var console = new TestConsole().Width(30);
        console.Profile.Capabilities.ColorSystem = ColorSystem.TrueColor;
        console.Write(grid.Blocks(30));
        Verified.Equal(string.Join('\n', console.Lines.Select(line => line.TrimEnd())), "grid-blocks");
    }

    [Fact]
    public void Picture_IsTwoPixelsACharacter_AndNoWiderThanTheTerminal()
    {
        using var picture = new SKBitmap(8, 6);
        picture.Erase(new SKColor(10, 20, 30));
        var console = new TestConsole().Width(4).EmitAnsiSequences();
        console.Profile.Capabilities.ColorSystem = ColorSystem.TrueColor;
        console.Write(PictureView.Of(picture, 4));
        // 4 × 3 pixels: two lines, the second of one pixel each.
        var lines = console.Output.TrimEnd('\n').Split('\n');
        Assert.Equal(2, lines.Length);
        Assert.Equal(8, console.Output.Count(c => c == '▀'));
        Assert.Contains("38;2;10;20;30", lines[0], StringComparison.Ordinal);
        Assert.Contains("48;2;10;20;30", lines[0], StringComparison.Ordinal);
        Assert.DoesNotContain("48;2;10;20;30", lines[1], StringComparison.Ordinal);
    }
}
