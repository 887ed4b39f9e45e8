using System.Globalization;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Tests.Cluster;

/// <summary>Pause, resume, cancel, retry and edit, of experiments and single trials.</summary>
public sealed class ControlTests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static ExperimentSpec Grid(params string[] rates) => TestSpecs.Small with
    {
        Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Values = rates } },
    };

    [Fact]
    public async Task Pause_LetsNothingRun_AndResume_GivesTheUndisturbedBits()
    {
        var script = new EngineScript();
        await using var cluster = await SmallCluster.StartAsync(1, script);
        var spec = Grid("0.05", "0.02", "0.1");
        var (calm, _) = await cluster.RunAsync("calm", spec);

        // Held in the second step of the second trial until the pause is asked for.
        var (reached, go) = (new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously), new ManualResetEventSlim());
        var first = 0;
        script.BeforeShard = (_, step, _, token) =>
        {
            if (step != 1 || Interlocked.Increment(ref first) <= spec.Training.Shards)
                return;
            reached.TrySetResult();
            go.Wait(token);
        };
        await cluster.Experiment("paused").SubmitAsync(TestSpecs.Submission(spec), Token);
        await reached.Task;
        Assert.True((await Control(cluster, "paused", ControlVerb.Pause)).Changed);
        Assert.False((await Control(cluster, "paused", ControlVerb.Pause)).Changed);
        go.Set();
        Assert.Equal(RunState.Paused, (await cluster.Experiment("paused").GetSnapshotAsync(Token))!.Summary.State);
        var snapshot = await UntilAsync(cluster, "paused", s => s.Trials[1].Step >= 2);
        Assert.Equal((2, 1, RunState.Queued), (snapshot.Trials[1].Step, snapshot.Summary.TrialsEnded, snapshot.Trials[2].State));
        Assert.True((await Control(cluster, "paused", ControlVerb.Resume)).Changed);
        var (ended, events) = await cluster.FollowAsync("paused");
        Assert.Equal(calm.Trials.Select(trial => trial.ParametersSha256), ended.Trials.Select(trial => trial.ParametersSha256));
        Assert.Single(events, e => e.Kind == EventKind.Paused);
        Assert.Single(events, e => e.Kind == EventKind.Resumed);
        await RefusedAsync(cluster, "paused", new() { Verb = ControlVerb.Pause }, "has ended");
        await RefusedAsync(cluster, "paused", new() { Verb = ControlVerb.Resume }, "'adpm retry'");
    }

    [Fact]
    public async Task Retry_GoesOnFromTheLastCommit_AndEndsLikeAnUndisturbedRun()
    {
        var script = new EngineScript();
        await using var cluster = await SmallCluster.StartAsync(1, script);
        var spec = Grid("0.05", "0.02");
        var (calm, _) = await cluster.RunAsync("calm", spec);

        var broken = true;
        script.BeforeShard = (_, step, _, _) =>
        {
            if (broken && step == 2)
                throw new InvalidDataException("The disk is full.");
        };
        var (failed, _) = await cluster.RunAsync("broken", spec with { Failure = spec.Failure with { MaxShardAttempts = 2 } });
        Assert.Equal((RunState.Failed, 2), (failed.Summary.State, failed.Trials[0].Step));
        await RefusedAsync(cluster, "calm", new() { Verb = ControlVerb.Retry, Trial = 0 }, "Trial 0 is succeeded");
        Assert.False((await Control(cluster, "calm", ControlVerb.Retry)).Changed);

        broken = false;
        Assert.Equal("2 trials are tried again.", (await Control(cluster, "broken", ControlVerb.Retry)).Message);
        var ended = await UntilAsync(cluster, "broken", s => TrialTable.IsEnded(s.Summary.State));
        Assert.Equal(RunState.Succeeded, ended.Summary.State);
        Assert.Null(ended.Reason);
        Assert.Equal(calm.Trials.Select(trial => trial.ParametersSha256), ended.Trials.Select(trial => trial.ParametersSha256));
        Assert.All(ended.Trials, trial => Assert.Equal(4, trial.LossHistory.Count));
        var audit = (await cluster.Experiment("broken").AuditAsync(0, Token))!;
        Assert.True(audit.Holds, string.Join('\n', audit.Violations));
    }

    [Fact]
    public async Task Cancel_OfOneTrial_LeavesTheOthers_AndRetry_BringsItBack()
    {
        var script = new EngineScript();
        var (reached, go) = (new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously), new ManualResetEventSlim());
        script.BeforeShard = (_, step, _, token) =>
        {
            if (step != 1)
                return;
            reached.TrySetResult();
            go.Wait(token);
        };
        await using var cluster = await SmallCluster.StartAsync(1, script);
        await cluster.Experiment("one").SubmitAsync(TestSpecs.Submission(Grid("0.05", "0.02", "0.1", "0.2")), Token);
        await reached.Task;
        await RefusedAsync(cluster, "one", new() { Verb = ControlVerb.Cancel, Trial = 4 }, "no trial 4");
        await RefusedAsync(cluster, "one", new() { Verb = ControlVerb.Cancel, Trial = -1 }, "no trial -1");
        Assert.True((await Control(cluster, "one", ControlVerb.Cancel, 0)).Changed);
        Assert.False((await Control(cluster, "one", ControlVerb.Cancel, 0)).Changed);
        Assert.True((await Control(cluster, "one", ControlVerb.Cancel, 2)).Changed);
        go.Set();
        var (ended, _) = await cluster.FollowAsync("one");
        Assert.Equal([RunState.Cancelled, RunState.Succeeded, RunState.Cancelled, RunState.Succeeded], ended.Trials.Select(trial => trial.State));
        Assert.Equal((2, 0), (ended.Trials[0].Step, ended.Trials[2].Step));
        Assert.True((await Control(cluster, "one", ControlVerb.Retry, 2)).Changed);
        var again = await UntilAsync(cluster, "one", s => TrialTable.IsEnded(s.Summary.State));
        Assert.Equal([RunState.Cancelled, RunState.Succeeded, RunState.Succeeded, RunState.Succeeded], again.Trials.Select(trial => trial.State));
        Assert.Equal("0.1", again.Trials[2].Parameters["optimizer.learningRate"]);
        Assert.True((await Control(cluster, "one", ControlVerb.Retry)).Changed);
        Assert.Equal(4, (await UntilAsync(cluster, "one", s => TrialTable.IsEnded(s.Summary.State))).Trials.Count(trial => trial.State == RunState.Succeeded));
    }

    [Fact]
    public async Task Edit_MoreTrialsOtherConcurrencyNarrowerSpace_HoldsForTrialsThatHaveNotBegun_AlsoAfterTheEnd()
    {
        await using var cluster = await SmallCluster.StartAsync(1);
        var spec = TestSpecs.Small with
        {
            Algorithm = new AlgorithmSpec { Name = AlgorithmName.Tpe, Seed = 5 },
            MaxTrials = 4,
            Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Min = 1e-4, Max = 0.5, Distribution = Distribution.LogUniform } },
            Training = new TrainingSpec { Steps = 1, Shards = 1, SamplesPerShard = 1 },
        };
        var (first, _) = await cluster.RunAsync("edited", spec);
        await RefusedAsync(cluster, "edited", Edit("maxConcurrentTrials", "3"), "Now only more trials");
        await RefusedAsync(cluster, "edited", Edit("maxTrials", "3"), "4 trials have begun");
        await RefusedAsync(cluster, "edited", Edit("optimizer.beta1", "0.5"), "cannot be edited");
        await RefusedAsync(cluster, "edited", Edit("maxTrial", "9"), "Did you mean 'maxTrials'?");
        await RefusedAsync(cluster, "edited", Edit("maxTrials", "many"), "maxTrials must be a whole number");
        await RefusedAsync(cluster, "edited", Edit("parameters.optimizer.learningRate.max", "0.9"), "narrowed, not widened");
        await RefusedAsync(cluster, "edited", new() { Verb = ControlVerb.Edit }, "at least one path=value");
        var receipt = await cluster.Experiment("edited").ControlAsync(new ExperimentControl
        {
            Verb = ControlVerb.Edit,
            Settings = [new("maxTrials", "9"), new("maxConcurrentTrials", "2"), new("parameters[\"optimizer.learningRate\"].min", "0.01"), new("parameters.optimizer.learningRate.max", "0.1")],
        }, Token);
        Assert.Equal("9 trials instead of 4, 2 at a time; it holds from trial 4 on.", receipt.Message);
        var ended = await UntilAsync(cluster, "edited", s => TrialTable.IsEnded(s.Summary.State));
        Assert.Equal(9, ended.Trials.Count(trial => trial.State == RunState.Succeeded));
        Assert.Equal(first.Trials.Select(Rate), ended.Trials.Take(4).Select(Rate));
        Assert.All(ended.Trials.Skip(4), trial => Assert.InRange(Rate(trial), 0.01, 0.1));
        Assert.Equal(9, ExperimentSpecJson.Deserialize(ended.SpecJson).MaxTrials);
        // The file that was submitted still means this experiment.
        Assert.True((await cluster.Experiment("edited").SubmitAsync(TestSpecs.Submission(spec), Token)).Existed);
    }

    [Fact]
    public async Task Target_Failures_AndEvaluations_EndASearch()
    {
        await using var cluster = await SmallCluster.StartAsync(1);
        var grid = Grid("0.05", "0.02", "1000", "0.1", "999", "0.2");
        var (target, _) = await cluster.RunAsync("target", grid with { Objective = new ObjectiveSpec { Metric = "heldOut.loss.after", Target = 1e9 } });
        Assert.Equal((RunState.Succeeded, 1), (target.Summary.State, target.Trials.Count(trial => trial.State == RunState.Succeeded)));
        Assert.Contains("target is reached: trial 0", target.Trials[3].Reason, StringComparison.Ordinal);

        var (failures, events) = await cluster.RunAsync("failures", grid with { Budget = new BudgetSpec { Failures = 1 } });
        Assert.Equal([RunState.Succeeded, RunState.Succeeded, RunState.Failed, RunState.Succeeded, RunState.Failed, RunState.Cancelled], failures.Trials.Select(trial => trial.State));
        Assert.Contains("2 trials failed, budget.failures is 1", failures.Reason, StringComparison.Ordinal);
        Assert.Single(events, e => e.Kind == EventKind.Limited);

        // Four steps of five shards, forty evaluations each.
        var (evaluations, _) = await cluster.RunAsync("evaluations", grid with { Budget = new BudgetSpec { Evaluations = 801 } });
        // The second trial may have been at its last step when that was known.
        Assert.Equal((RunState.Succeeded, RunState.Cancelled, RunState.Cancelled), (evaluations.Trials[0].State, evaluations.Trials[3].State, evaluations.Trials[5].State));
        await RefusedAsync(cluster, "evaluations", new() { Verb = ControlVerb.Retry }, "budget is spent");
        Assert.True((await cluster.Experiment("evaluations").ControlAsync(Edit("budget.evaluations", "1e6"), Token)).Changed);
        Assert.True((await Control(cluster, "evaluations", ControlVerb.Retry)).Changed);
        Assert.Equal(4, (await UntilAsync(cluster, "evaluations", s => TrialTable.IsEnded(s.Summary.State) && s.Trials[5].State == RunState.Succeeded)).Trials.Count(trial => trial.State == RunState.Succeeded));
    }

    [Fact]
    public async Task EarlyStopping_EndsTrials_WithTheSameTableOnOneSiloAsOnTwo()
    {
        var spec = Simulation.Simulated.Halving;
        async Task<(string Table, ExperimentSnapshot Snapshot)> Run(short silos)
        {
            await using var cluster = await SmallCluster.StartAsync(silos);
            var (snapshot, events) = await cluster.RunAsync("halving", spec);
            Assert.Equal(14, events.Count(e => e.Kind == EventKind.TrialEnded));
            return (string.Join('\n', snapshot.Trials.Select(trial => $"{trial.Index} {trial.State} {trial.Step} {Rate(trial)} {trial.ParametersSha256}")), snapshot);
        }

        var (one, snapshot) = await Run(1);
        Assert.Equal(one, (await Run(2)).Table);
        Assert.Equal(RunState.Succeeded, snapshot.Summary.State);
        Assert.InRange(snapshot.Trials.Count(trial => trial.State == RunState.Stopped), 7, 13);
        Assert.All(snapshot.Trials.Where(trial => trial.State == RunState.Stopped), trial => Assert.Contains($"asha stopped it after step {trial.Step}", trial.Reason, StringComparison.Ordinal));
    }

    [Fact]
    public async Task Pbt_GenerationsGoOnWithEachOthersParameters()
    {
        await using var cluster = await SmallCluster.StartAsync(1);
        var spec = TestSpecs.Small with
        {
            Algorithm = new AlgorithmSpec { Name = AlgorithmName.Pbt, Population = 4 },
            MaxTrials = 12,
            Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
            Optimizer = new OptimizerSpec { Name = OptimizerName.Sgd },
            Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Min = 1e-3, Max = 0.3, Distribution = Distribution.LogUniform } },
        };
        var (snapshot, _) = await cluster.RunAsync("population", spec);
        Assert.Equal(12, snapshot.Trials.Count(trial => trial.State == RunState.Succeeded));
        Assert.All(snapshot.Trials.Take(4), trial => Assert.Null(trial.BegunWith));
        foreach (var trial in snapshot.Trials.Skip(4))
        {
            var parent = snapshot.Trials[trial.BegunWith!.Value];
            Assert.Equal(parent.Metrics["heldOut.loss.after"], trial.Metrics["heldOut.loss.before"]);
            Assert.InRange(trial.Metrics["heldOut.loss.after"], 0, trial.Metrics["heldOut.loss.before"]);
        }
        Assert.True((await cluster.Experiment("population").AuditAsync(11, Token))!.Holds);
        // Also the first step of a later generation can be computed once more.
        var replay = cluster.Cluster.Client.GetGrain<IStepReplayGrain>(IStepReplayGrain.KeyOf("population", 7, 1));
        var answer = await replay.ReplayAsync(Token);
        while (answer.State == ReplayState.Running)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, Token);
            answer = await replay.ReplayAsync(Token);
        }
        Assert.True(answer.State == ReplayState.Equal, string.Join("; ", answer.Differences));
    }

    [Fact]
    public async Task SeveralObjectives_GiveAFront()
    {
        await using var cluster = await SmallCluster.StartAsync(1);
        var (snapshot, _) = await cluster.RunAsync("front", Grid("0.05", "0.02", "0.1") with { Objectives = [new() { Metric = "heldOut.loss.after" }, new() { Metric = "gradientNorm", Goal = Goal.Maximize }] });
        // A larger rate has the smaller loss, and so the smaller gradient.
        Assert.Equal([0, 1, 2], snapshot.Front!);
        Assert.Equal(2, snapshot.BestTrial);
    }

    private static ExperimentControl Edit(string path, string value) => new() { Verb = ControlVerb.Edit, Settings = [new(path, value)] };

    private static double Rate(TrialSnapshot trial) => double.Parse(trial.Parameters["optimizer.learningRate"], CultureInfo.InvariantCulture);

    private static Task<ControlReceipt> Control(SmallCluster cluster, string id, ControlVerb verb, int? trial = null) => cluster.Experiment(id).ControlAsync(new ExperimentControl { Verb = verb, Trial = trial }, Token);

    private static async Task RefusedAsync(SmallCluster cluster, string id, ExperimentControl control, string because) =>
        Assert.Contains(because, (await Assert.ThrowsAsync<ArgumentException>(() => cluster.Experiment(id).ControlAsync(control, Token))).Message, StringComparison.Ordinal);

    private static async Task<ExperimentSnapshot> UntilAsync(SmallCluster cluster, string id, Func<ExperimentSnapshot, bool> holds)
    {
        var experiment = cluster.Experiment(id);
        // Every event is an occasion to look.
        var snapshot = (await experiment.GetSnapshotAsync(Token))!;
        await foreach (var _ in experiment.WatchAsync(0, Token))
        {
            snapshot = (await experiment.GetSnapshotAsync(Token))!;
            if (holds(snapshot))
                return snapshot;
        }
        Assert.True(holds(snapshot), $"{snapshot.Summary}");
        return snapshot;
    }
}
