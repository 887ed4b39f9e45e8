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
    public void Progress_OfTrialsThatEndEarly_ReachesTheEnd()
    {
        var running = Samples.Running();
        var progress = new ExperimentProgress(_time);
        progress.Refresh(running with { Trials = [Samples.Trial(0, RunState.Succeeded, 0.1), Samples.Trial(1, RunState.Stopped, 0.1, 4), Samples.Trial(2, RunState.Failed, 0.1, 6), Samples.Trial(3, RunState.Stopped, 0.1, 0)] });
        Assert.Equal((30, 30), (progress.StepsDone, progress.StepsPlanned));
    }

    [Fact]
    public void Progress_CountsTheTrialsThatASnapshotLeavesOut()
    {
        var progress = new ExperimentProgress(_time);
        var running = Samples.Running();
        progress.Refresh(running with { Summary = running.Summary with { Trials = 5000, TrialsEnded = 2001 } });
        // One of the three that are told has ended, and 2,000 of the 4,997 others.
        Assert.Equal((27 + (2000 * 20), 5000 * 20), (progress.StepsDone, progress.StepsPlanned));
    }

    [Fact]
    public void Progress_Remaining_LeavesOutWhatComesBeforeTheFirstStep()
    {
        var progress = new ExperimentProgress(_time);
        var alone = Samples.Running() with { Trials = [Samples.Trial(0, RunState.Running, 0.1, 0) with { Phase = "proving" }] };
        alone = alone with { Summary = alone.Summary with { Trials = 1, TrialsEnded = 0 } };
        progress.Refresh(alone);
        _time.Advance(TimeSpan.FromMinutes(10));
        var step = new ExperimentEvent { Sequence = 5, Time = Samples.Noon, Kind = EventKind.StepCommitted, Trial = 0, Step = 1, Message = "" };
        progress.Happened(step);
        Assert.Null(progress.Remaining);
        _time.Advance(TimeSpan.FromSeconds(3));
        progress.Happened(step with { Step = 2 });
        Assert.Equal(TimeSpan.FromSeconds(3 * 18), progress.Remaining);
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

    [Theory]
    [InlineData("", "xterm-256color", true)]
    [InlineData("1", "xterm-256color", false)]
    [InlineData("", "dumb", false)]
    public void Colours_AreLeftOut_WhereNoColorOrTheTerminalSaysSo(string noColor, string term, bool colored)
    {
        var (output, error) = (new StringWriter { NewLine = "\n" }, new StringWriter { NewLine = "\n" });
        var terminal = Terminal.Of(name => name switch { "NO_COLOR" => noColor, "TERM" => term, _ => null }, (output, false), (error, false), null!);
        ExperimentView.Show(terminal, Samples.Ended(), _time);
        terminal.Note("[red]error:[/] something");
        foreach (var text in new[] { output.ToString(), error.ToString() })
        {
            Assert.Equal(colored, text.Contains("\e[38;5;", StringComparison.Ordinal) || text.Contains("\e[31m", StringComparison.Ordinal) || text.Contains("\e[91m", StringComparison.Ordinal) || text.Contains("\e[9", StringComparison.Ordinal));
            Assert.Equal(term != "dumb", text.Contains('\e', StringComparison.Ordinal) || noColor.Length > 0);
        }

        Assert.Equal(colored, terminal.Out.ShowsPictures);
        Assert.Equal(term != "dumb", terminal.Live);
    }

    [Fact]
    public void Redirected_StreamsAreWhatTheyAre_EachForItself()
    {
        var terminal = Terminal.Of(_ => null, (new StringWriter(), true), (new StringWriter(), false), null!);
        Assert.Equal((false, true, true), (terminal.Out.IsTerminal, terminal.Error.IsTerminal, terminal.Live));
    }

    [Fact]
    public async Task WorkBar_TellsTheTimeThatIsLeft_FromTheFirstThatIsDone()
    {
        var error = new StringWriter { NewLine = "\n" };
        var terminal = new Terminal(Outlet.Open(TextWriter.Null, false, false), Outlet.Open(error, false, false), Live: false);
        await using var bar = new WorkBar(terminal, _time, "loading [the model]");
        _time.Advance(TimeSpan.FromMinutes(3));
        Assert.Equal("loading [[the model]]  [grey]3m00s[/]", bar.Text());
        bar.Report("drawing", 2, 10);
        Assert.EndsWith("20%  drawing, 2 of 10", bar.Text(), StringComparison.Ordinal);
        _time.Advance(TimeSpan.FromSeconds(4));
        bar.Report("drawing", 4, 10);
        Assert.EndsWith("40%  drawing, 4 of 10  eta 12s", bar.Text(), StringComparison.Ordinal);
        _time.Advance(TimeSpan.FromSeconds(7));
        bar.Report("drawing", 5, 10);
        // In a log a line every ten seconds, not one for each.
        Assert.Equal("drawing, 2 of 10\ndrawing, 5 of 10, eta 18s\n", error.ToString());
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
