using AdjointDpm.Client.Progress;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Tests.Commands;
using AdjointDpm.Grains.Experiments;
using Microsoft.Extensions.Time.Testing;
using Spectre.Console.Testing;

namespace AdjointDpm.Client.Tests.Rendering;

public sealed class RenderingTests
{
    private readonly FakeTimeProvider _time = new(Samples.Noon);

    [Theory]
    [InlineData(0, "0")]
    [InlineData(1, "1.000")]
    [InlineData(-0.98765, "-0.9877")]
    [InlineData(12.345, "12.35")]
    [InlineData(123.45, "123.5")]
    [InlineData(54321, "54321")]
    [InlineData(1234567, "1.235e6")]
    [InlineData(0.0663, "0.06630")]
    [InlineData(0.0045219, "0.004522")]
    [InlineData(0.00012, "1.2e-4")]
    [InlineData(double.NaN, "NaN")]
    [InlineData(double.NegativeInfinity, "-Infinity")]
    public void Number_HasFourDigits(double value, string expected) => Assert.Equal(expected, Words.Number(value));

    [Theory]
    [InlineData(-1, "0s")]
    [InlineData(4.26, "4.3s")]
    [InlineData(4, "4s")]
    [InlineData(59.9, "59s")]
    [InlineData(61, "1m01s")]
    [InlineData(3900, "1h05m")]
    [InlineData(100000, "27h46m")]
    public void Span_IsShort(double seconds, string expected) => Assert.Equal(expected, Words.Span(TimeSpan.FromSeconds(seconds)));

    [Fact]
    public void Curve_FollowsTheValues()
    {
        Assert.Equal("▁▂▃▄▅▆▇█", Bar.Curve([1, 2, 3, 4, 5, 6, 7, 8], 8));
        Assert.Equal("█▁", Bar.Curve([9, 9, double.NaN, 1, 1], 2));
        Assert.Equal("▁▁", Bar.Curve([3, 3], 10));
        Assert.Equal("", Bar.Curve([double.NaN], 10));
    }

    [Fact]
    public void Progress_ShowsBarsLossAndTimeLeft()
    {
        var progress = new ExperimentProgress(_time);
        progress.Refresh(Samples.Running());
        _time.Advance(TimeSpan.FromSeconds(10));
        var step = new ExperimentEvent { Sequence = 5, Time = Samples.Noon, Kind = EventKind.StepCommitted, Trial = 1, Step = 12, Message = "", Metrics = new Dictionary<string, double> { ["loss"] = 0.4321 } };
        progress.Happened(step);
        progress.Happened(step with { Step = 3 }); // replayed: older than the snapshot
        Assert.Equal(TimeSpan.FromSeconds(56), progress.Remaining);
        using var console = new TestConsole().Width(100);
        console.Write(ProgressView.Of(progress, 100));
        Verified.Equal(string.Join('\n', console.Lines.Select(line => line.TrimEnd())), "progress-100");
        using var narrow = new TestConsole().Width(60);
        narrow.Write(ProgressView.Of(progress, 60));
        Verified.Equal(string.Join('\n', narrow.Lines.Select(line => line.TrimEnd())), "progress-60");
    }

    [Fact]
    public void Progress_ManyTrials_AreCutShort()
    {
        var running = Samples.Running();
        var progress = new ExperimentProgress(_time);
        progress.Refresh(running with { Trials = [.. Enumerable.Range(0, 20).Select(i => Samples.Trial(i, RunState.Running, 0.1, i))] });
        using var console = new TestConsole().Width(100);
        console.Write(ProgressView.Of(progress, 100));
        Assert.Equal("and 12 more", console.Lines[^1].Trim());
        Assert.Equal(11, console.Lines.Count);
    }

    [Fact]
    public async Task Live_DrawsAndClears()
    {
        using var console = new TestConsole().Interactive().EmitAnsiSequences().Width(100);
        var terminal = new Terminal(Outlet.Open(TextWriter.Null, false, false), new Outlet(console, TextWriter.Null, terminal: true), Live: true);
        await using (var live = new LiveProgress(terminal, TimeProvider.System))
        {
            live.Refresh(Samples.Running());
            while (!console.Output.Contains("trial 1", StringComparison.Ordinal)) await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System, TestContext.Current.CancellationToken);
            live.Notice("silo-1 [died]");
        }

        Assert.Contains("silo-1 [died]", console.Output);
    }

    [Fact]
    public void Show_NarrowTerminal_StacksTheTrials()
    {
        var text = new StringWriter { NewLine = "\n" };
        var terminal = new Terminal(Outlet.Open(text, terminal: false, color: false, width: 72), Outlet.Open(TextWriter.Null, false, false), Live: false);
        ExperimentView.Show(terminal, Samples.Ended(), _time);
        Verified.Equal(text.ToString(), "show-72");
    }

    /// <summary>Attacks have lines of their own, and an estimate is not said to be proven.</summary>
    [Fact]
    public void Show_AnAttackByAnEstimate_TellsBothAsTheyAre()
    {
        var text = new StringWriter { NewLine = "\n" };
        var terminal = new Terminal(Outlet.Open(text, terminal: false, color: false, width: 120), Outlet.Open(TextWriter.Null, false, false), Live: false);
        var ended = Samples.Ended();
        ExperimentView.Show(terminal, ended with { Trials = [Samples.Attacked(ended.Trials[0]) with { Proof = new("refl", false, true, 0.4567, 0.25, 0.9, null, IsEstimate: true) }] }, _time);
        Verified.Equal(text.ToString(), "show-attack");
    }

    [Fact]
    public void Problems_LongLineAndControlCharacters_AreShownInAWindow()
    {
        using var console = new TestConsole().Width(60);
        ProblemView.Show(new Outlet(console, TextWriter.Null, terminal: true), [new("e.yaml", 1, 150, "spec", "Something is wrong [here].") { Length = 9 }], [new string('a', 149) + "\t\u001b[31mwrong" + new string('b', 100)]);
        Verified.Equal(string.Join('\n', console.Lines.Select(line => line.TrimEnd())), "problem-window");
    }

    [Fact]
    public void Terminal_EveryLineEnds()
    {
        using var console = new TestConsole().Width(80);
        var outlet = new Outlet(console, TextWriter.Null, terminal: true);
        outlet.Line("[bold]one[/]");
        outlet.Line("");
        outlet.Write(Listing.Table([Samples.Summary("a-00000000", RunState.Running, 1, 0, 1)], ExperimentView.Columns(_time), wide: false));
        outlet.Line("two");
        Assert.Equal(["one", "", "ID          NAME  STATE    TRIALS  SUBMITTED         TIME", "a-00000000  a     running  0/1     2026-07-22 11:59  1m00s", "two"], console.Lines.Select(line => line.TrimEnd()));
    }
}
