using System.Globalization;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Experiments.Searching;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tests.Cluster;

namespace AdjointDpm.Grains.Tests.Experiments;

public sealed class ManyTrialsTests
{
    /// <summary>A grid of 100,000 points.</summary>
    private static readonly ExperimentSpec Grid = TestSpecs.Small with
    {
        Parameters = new Dictionary<string, ParameterSpec> { ["training.seed"] = new() { Values = Numbers(1000) }, ["sample.steps"] = new() { Values = Numbers(100) } },
        Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
    };

    [Fact]
    public async Task Grid_OfAHundredThousand_IsAccepted_ListedByPage_AndItsStateStaysSmall()
    {
        await using var cluster = await SmallCluster.StartAsync();
        var experiment = cluster.Experiment("huge");
        var receipt = await experiment.SubmitAsync(TestSpecs.Submission(Grid), TestContext.Current.CancellationToken);
        Assert.Equal(100_000, receipt.Trials);

        ExperimentSnapshot snapshot;
        do
            snapshot = (await experiment.GetSnapshotAsync(TestContext.Current.CancellationToken))!;
        while (snapshot.Summary.TrialsEnded < 3);
        Assert.Equal((100_000, ExperimentSnapshot.MostTrials), (snapshot.Summary.Trials, snapshot.Trials.Count));
        Assert.Equal(RunState.Succeeded, snapshot.Trials[0].State);

        var last = await experiment.GetTrialsAsync(99_990, 50, TestContext.Current.CancellationToken);
        Assert.Equal(Enumerable.Range(99_990, 10), last.Select(trial => trial.Index));
        Assert.Equal(("1000", "100"), (last[^1].Parameters["training.seed"], last[^1].Parameters["sample.steps"]));
        Assert.Equal(ExperimentSnapshot.MostTrials, (await experiment.GetTrialsAsync(5000, int.MaxValue, TestContext.Current.CancellationToken)).Count);
        Assert.Empty(await experiment.GetTrialsAsync(100_000, 10, TestContext.Current.CancellationToken));

        // What is stored of the experiment is its spec and a few lines.
        var states = Directory.GetFiles(Path.Combine(cluster.Folder, "state", "experiment"), "*.state", SearchOption.AllDirectories);
        Assert.InRange(new FileInfo(Assert.Single(states)).Length, 1, 64 * 1024);
    }

    [Fact]
    public void Table_CountsAndFindsTrials_WithoutARowForEach()
    {
        var table = new TrialTable(Grid, new Search(Grid));
        Assert.Equal((100_000, 0, 0, 0), (table.Count, table.Ended, table.Running.Count, table.Queued.First()));
        table.Apply(Line(EventKind.TrialStarted, 0));
        table.Apply(Line(EventKind.TrialStarted, 1));
        table.Apply(Line(EventKind.TrialEnded, 0) with { Trial = table[0] with { State = RunState.Succeeded, Metrics = new Dictionary<string, double> { ["heldOut.loss.after"] = 2 } } });
        table.Apply(Line(EventKind.TrialStarted, 70_000));
        table.Apply(Line(EventKind.TrialEnded, 70_000) with { Trial = table[70_000] with { State = RunState.Succeeded, Metrics = new Dictionary<string, double> { ["heldOut.loss.after"] = 1 } } });
        Assert.Equal((2, 2, 70_000), (table.Ended, table.Queued.First(), table.Best()));
        Assert.Equal([1], table.Running);
        // Also the best one, wherever it stands.
        Assert.Equal([.. Enumerable.Range(0, ExperimentSnapshot.MostTrials - 1), 70_000], table.Told().Select(trial => trial.Index));
        Assert.Equal(70_000, Assert.Single(table.Page(70_000, 1)).Index);
    }

    private static JournalLine Line(EventKind kind, int trial) => new() { Event = new ExperimentEvent { Sequence = 1, Time = DateTimeOffset.UnixEpoch, Kind = kind, Trial = trial, Message = "" } };

    private static IReadOnlyList<string> Numbers(int count) => [.. Enumerable.Range(1, count).Select(i => i.ToString(CultureInfo.InvariantCulture))];
}
