using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Tests.Cluster;

public sealed class ExperimentTests
{
    [Fact]
    public async Task Experiment_RunsToTheEnd_WithGapFreeEventsAndAReport()
    {
        await using var cluster = await SmallCluster.StartAsync();
        var (snapshot, events) = await cluster.RunAsync("one", TestSpecs.Small);

        Assert.Equal(RunState.Succeeded, snapshot.Summary.State);
        var trial = Assert.Single(snapshot.Trials);
        Assert.Equal(4, trial.Step);
        Assert.Equal(4, trial.LossHistory.Count);
        Assert.True(trial.Metrics["loss.after"] < trial.Metrics["loss.before"]);
        Assert.Equal(Enumerable.Range(1, events.Count).Select(i => (long)i), events.Select(e => e.Sequence));
        Assert.Equal(4, events.Count(e => e.Kind == EventKind.StepCommitted));
        Assert.Equal(EventKind.ExperimentEnded, events[^1].Kind);
        Assert.True(File.Exists(Path.Combine(snapshot.ArtifactFolder, "report.json")));
        Assert.True(File.Exists(Path.Combine(trial.ArtifactFolder!, "manifest.json")));
        Assert.Equal(trial.ParametersSha256, DataPlane.TensorReferenceTests.HashOfFile(Path.Combine(trial.ArtifactFolder!, "parameters.bin")));
    }

    [Fact]
    public async Task Submit_Twice_GivesTheSameReceipt_AndAnotherSpecIsRefused()
    {
        await using var cluster = await SmallCluster.StartAsync(1);
        var first = await cluster.Experiment("twice").SubmitAsync(TestSpecs.Submission(TestSpecs.Small), TestContext.Current.CancellationToken);
        var second = await cluster.Experiment("twice").SubmitAsync(TestSpecs.Submission(TestSpecs.Small), TestContext.Current.CancellationToken);
        Assert.False(first.Existed);
        Assert.True(second.Existed);
        var other = TestSpecs.Submission(TestSpecs.Small with { Training = new TrainingSpec { Steps = 9 } });
        var refused = await Assert.ThrowsAsync<ArgumentException>(() => cluster.Experiment("twice").SubmitAsync(other, TestContext.Current.CancellationToken));
        Assert.Contains("exists with another spec", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>With a rate that overshoots, the held-out loss falls and then rises: the best version is kept, and training ends.</summary>
    [Fact]
    public async Task HeldOutLossThatRises_EndsTraining_AndTheBestVersionIsSaved()
    {
        var script = new EngineScript();
        // Pulls the parameters away again after the third step.
        script.BeforeShard = (_, step, _, _) => script.Bias = step < 3 ? 0 : 3;
        await using var cluster = await SmallCluster.StartAsync(1, script);
        var spec = TestSpecs.Small with
        {
            Optimizer = new OptimizerSpec { Name = OptimizerName.Sgd, LearningRate = 0.3 },
            Training = TestSpecs.Small.Training with { Steps = 12 },
            HeldOut = new HeldOutSpec { Samples = 5, Every = 1, Patience = 2 },
            Checkpoint = new CheckpointSpec { KeepSteps = 12 },
        };
        var (snapshot, _) = await cluster.RunAsync("rising", spec);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        var trial = Assert.Single(snapshot.Trials);
        Assert.Equal((3, 5, 5), ((int)trial.Metrics["heldOut.bestStep"], (int)trial.Metrics["heldOut.stoppedAtStep"], trial.Step));
        Assert.True(trial.Metrics["loss.after"] < trial.Metrics["heldOut.loss"]);
        Assert.True(trial.Metrics["loss.after"] < trial.Metrics["loss.before"]);
        // What was saved is the third version, which a replay of the ledger would step to.
        var saved = DataPlane.TensorReferenceTests.HashOfFile(Path.Combine(trial.ArtifactFolder!, "parameters.bin"));
        Assert.NotEqual(trial.ParametersSha256, saved);
        var audit = (await cluster.Experiment("rising").AuditAsync(0, TestContext.Current.CancellationToken))!;
        Assert.True(audit.Holds, string.Join('\n', audit.Violations));

        // Training that never helps ends with what it began with.
        script.BeforeShard = (_, _, _, _) => script.Bias = 30;
        var (worse, _) = await cluster.RunAsync("worse", spec with { Training = spec.Training with { Seed = 2 } });
        Assert.Equal(worse.Trials[0].Metrics["loss.before"], worse.Trials[0].Metrics["loss.after"]);
        Assert.Equal(2, worse.Trials[0].Step);
    }

    /// <summary>The loss falls throughout, but it is not what the best version is kept by.</summary>
    [Theory]
    [InlineData("accuracy", null)]
    [InlineData("loss", Goal.Maximize)]
    public async Task HeldOutMetric_DecidesWhatIsKept(string metric, Goal? goal)
    {
        await using var cluster = await SmallCluster.StartAsync(1);
        var (snapshot, _) = await cluster.RunAsync("metric", TestSpecs.Small with
        {
            Optimizer = new OptimizerSpec { Name = OptimizerName.Sgd, LearningRate = 0.3 },
            Training = TestSpecs.Small.Training with { Steps = 12 },
            HeldOut = new HeldOutSpec { Samples = 5, Every = 1, Patience = 3, Metric = metric, Goal = goal, Classifier = metric == "accuracy" ? "/judge" : null },
        });
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        var trial = Assert.Single(snapshot.Trials);
        // The closed form is right about every sample from the beginning on, so no version is more accurate than the first.
        Assert.Equal((3, 3), ((int)trial.Metrics["heldOut.stoppedAtStep"], trial.Step));
        Assert.Equal(trial.Metrics["loss.before"], trial.Metrics["loss.after"]);
        Assert.True(trial.Metrics["heldOut.loss"] < trial.Metrics["loss.before"]);
        Assert.DoesNotContain("heldOut.bestStep", trial.Metrics.Keys);
        Assert.DoesNotContain("accuracy.after", trial.Metrics.Keys);
    }

    [Fact]
    public async Task Grid_OneTrialWithNaN_FailsWithReason_AndTheOthersSucceed()
    {
        await using var cluster = await SmallCluster.StartAsync();
        var spec = TestSpecs.Small with
        {
            Parameters = new Dictionary<string, ParameterSpec> { ["optimizer.learningRate"] = new() { Values = ["0.01", "500", "0.05"] } },
            MaxConcurrentTrials = 2,
            Objective = new ObjectiveSpec { Metric = "heldOut.loss.after" },
        };
        var (snapshot, events) = await cluster.RunAsync("grid", spec);

        Assert.Equal(RunState.Succeeded, snapshot.Summary.State);
        Assert.Equal([RunState.Succeeded, RunState.Failed, RunState.Succeeded], snapshot.Trials.Select(t => t.State));
        Assert.Matches("^Step 1, shard \\d: The loss is not finite first at step 3", snapshot.Trials[1].Reason);
        Assert.Equal(2, snapshot.BestTrial);
        Assert.Equal(3, events.Count(e => e.Kind == EventKind.TrialEnded));
    }

    [Fact]
    public async Task AllTrialsFail_ExperimentFailsWithTheReason()
    {
        await using var cluster = await SmallCluster.StartAsync(1);
        var (snapshot, _) = await cluster.RunAsync("nan", TestSpecs.Small with { Optimizer = new OptimizerSpec { LearningRate = 500 } });
        Assert.Equal(RunState.Failed, snapshot.Summary.State);
        Assert.Contains("loss is not finite", snapshot.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Cancel_StopsAfterTheStepInHand()
    {
        var script = new EngineScript();
        var reached = new TaskCompletionSource();
        using var go = new ManualResetEventSlim();
        script.BeforeShard = (_, step, _, token) =>
        {
            if (step == 1)
            {
                reached.TrySetResult();
                go.Wait(token);
            }
        };
        await using var cluster = await SmallCluster.StartAsync(1, script);
        await cluster.Experiment("cancel").SubmitAsync(TestSpecs.Submission(TestSpecs.Small), TestContext.Current.CancellationToken);
        await reached.Task.WaitAsync(TimeSpan.FromSeconds(120), TestContext.Current.CancellationToken);
        Assert.True(await cluster.Experiment("cancel").CancelAsync(TestContext.Current.CancellationToken));
        go.Set();
        var (snapshot, _) = await cluster.FollowAsync("cancel");
        Assert.Equal(RunState.Cancelled, snapshot.Summary.State);
        Assert.Equal(2, Assert.Single(snapshot.Trials).Step);
        Assert.False(await cluster.Experiment("cancel").CancelAsync(TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task OneTwoAndThreeSilos_GiveTheSameBits()
    {
        var hashes = new List<string?>();
        foreach (short silos in new short[] { 1, 2, 3 })
        {
            // Large enough for the chunked path.
            await using var cluster = await SmallCluster.StartAsync(silos, new EngineScript { Parameters = 400_000 });
            hashes.Add((await cluster.RunAsync("bits", TestSpecs.Small)).Snapshot.Trials[0].ParametersSha256);
        }
        Assert.NotNull(hashes[0]);
        Assert.All(hashes, hash => Assert.Equal(hashes[0], hash));
    }

    [Fact]
    public async Task TransientFailures_AreReissued_AndGiveTheSameBits()
    {
        await using var calm = await SmallCluster.StartAsync(1);
        var expected = (await calm.RunAsync("calm", TestSpecs.Small)).Snapshot.Trials[0];

        var script = new EngineScript();
        var failed = 0;
        script.BeforeShard = (_, step, shard, _) =>
        {
            if ((step, shard) is (1, 2) or (3, 0) && Interlocked.Increment(ref failed) <= 3)
                throw new IOException("the disk of this worker is away");
        };
        await using var cluster = await SmallCluster.StartAsync(2, script);
        var (snapshot, events) = await cluster.RunAsync("shaky", TestSpecs.Small);
        Assert.Equal(RunState.Succeeded, snapshot.Summary.State);
        Assert.Equal(expected.ParametersSha256, snapshot.Trials[0].ParametersSha256);
        Assert.True(snapshot.Trials[0].ShardsReissued >= 3);

        var audit = (await cluster.Experiment("shaky").AuditAsync(0, TestContext.Current.CancellationToken))!;
        Assert.True(audit.Holds, string.Join('\n', audit.Violations));
        Assert.Equal((4, 5, 20L, 40L), (audit.Steps, audit.Shards, audit.Accepted, audit.Weight));
        Assert.Equal("the coordinator's committed state", audit.HeadSource);
        Assert.Equal(audit.Head, snapshot.Trials[0].LedgerSha256);
        Assert.Equal(audit.ParametersSha256, snapshot.Trials[0].ParametersSha256);
        Assert.Null(await cluster.Experiment("shaky").AuditAsync(1, TestContext.Current.CancellationToken));

        // From the folder alone, with and without the state; and after somebody has been at it.
        var folder = new RunFolder(cluster.Folder);
        Assert.Equal(["shaky"], folder.Experiments());
        Directory.Delete(Path.Combine(cluster.Folder, "state", "trial"), recursive: true);
        Assert.True(folder.Audit("shaky", 0).Holds);
        Assert.Equal("report.json", folder.Audit("shaky", 0).HeadSource);
        var file = Assert.Single(Directory.GetFiles(Path.Combine(folder.TrialFolder("shaky", 0), RunFolder.LedgerFolder)));
        var lines = await File.ReadAllLinesAsync(file, TestContext.Current.CancellationToken);
        await File.WriteAllLinesAsync(file, lines[..^1], TestContext.Current.CancellationToken);
        Assert.Contains("the record of step 4 is missing", folder.Audit("shaky", 0).Violations[0], StringComparison.Ordinal);
        Assert.Contains(events, e => e.Kind == EventKind.ShardReissued);
    }

    [Fact]
    public async Task ShardLostTooOften_FailsTheTrialWithTheLastReason()
    {
        var script = new EngineScript { BeforeShard = (_, _, _, _) => throw new IOException("no disk here") };
        await using var cluster = await SmallCluster.StartAsync(1, script);
        var (snapshot, _) = await cluster.RunAsync("lost", TestSpecs.Small with { Failure = new FailureSpec { MaxShardAttempts = 2 } });
        Assert.Equal(RunState.Failed, snapshot.Summary.State);
        Assert.Contains("was lost 2 times", snapshot.Reason, StringComparison.Ordinal);
        Assert.Matches("Attempt 1: .+/cpu:0: .+ Attempt 2: .+/cpu:0: .+", snapshot.Reason);
        Assert.Contains("no disk here", snapshot.Reason, StringComparison.Ordinal);
    }

    [Fact]
    public async Task OutOfMemory_AsksForLessOnce_AndSaysSo()
    {
        await using var cluster = await SmallCluster.StartAsync(script: new EngineScript { MemoryShortFrom = 2 });
        var (snapshot, events) = await cluster.RunAsync("short", TestSpecs.Small with { Checkpoint = new CheckpointSpec { KeepSteps = 1 } });
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        // The third step is the first that did not fit.
        Assert.Equal(3, snapshot.Trials[0].LeanFrom);
        var told = Assert.Single(events, happened => happened.Kind == EventKind.MemoryShort);
        Assert.Equal((0, 3), (told.Trial, told.Step));
        var records = new RunFolder(cluster.Folder).Ledger("short", 0).OrderBy(file => file.Name, StringComparer.Ordinal).SelectMany(file => file.Lines).Select(line => LedgerRecord.Parse(line)!).ToList();
        Assert.Equal([null, null, null, true, true], records.Select(record => record.Lean));
        Assert.True((await cluster.Experiment("short").AuditAsync(0, TestContext.Current.CancellationToken))!.Holds);
        var replay = cluster.Cluster.Client.GetGrain<IStepReplayGrain>(IStepReplayGrain.KeyOf("short", 0, 4));
        StepReplay answer;
        while ((answer = await replay.ReplayAsync(TestContext.Current.CancellationToken)).State == ReplayState.Running)
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, TestContext.Current.CancellationToken);
        Assert.True(answer.State == ReplayState.Equal, answer.Reason);
    }

    /// <summary>What is kept for other trials goes first: a trial that fits without it has the bits of one that was alone.</summary>
    [Fact]
    public async Task OutOfMemory_WithModelsOfOtherTrialsInIt_AsksForNothingLess()
    {
        var (kept, failed) = (true, 0);
        var script = new EngineScript
        {
            BeforeShard = (_, step, _, _) =>
            {
                if (step == 2 && Volatile.Read(ref kept))
                {
                    Interlocked.Increment(ref failed);
                    throw new NativeException("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`");
                }
            },
        };
        script.Spare = () => Interlocked.Exchange(ref kept, false);
        await using var cluster = await SmallCluster.StartAsync(1, script);
        var (snapshot, _) = await cluster.RunAsync("spared", TestSpecs.Small);
        Assert.True(snapshot.Summary.State == RunState.Succeeded, snapshot.Reason);
        Assert.Equal(1, failed);
        Assert.Equal((null, 0), (snapshot.Trials[0].LeanFrom, snapshot.Trials[0].ShardsReissued));
    }

    [Fact]
    public async Task OutOfMemory_AlsoOneSampleAtATime_FailsWithWhatHelps()
    {
        await using var cluster = await SmallCluster.StartAsync(1, new EngineScript { MemoryShortFrom = 1, NeverEnough = true });
        var (snapshot, _) = await cluster.RunAsync("short", TestSpecs.Small);
        Assert.Equal(RunState.Failed, snapshot.Summary.State);
        Assert.Equal((1, 2), (snapshot.Trials[0].Step, snapshot.Trials[0].LeanFrom));
        Assert.Matches("Step 2, shard [0-4] on .+/cpu:0: It ran out of memory: .+ It was one sample at a time already", snapshot.Reason);
    }

    [Fact]
    public async Task SlotsPerTrial_BoundTheWorkers_AndTheBitsAreTheSame()
    {
        await using var cluster = await SmallCluster.StartAsync();
        var all = (await cluster.RunAsync("all", TestSpecs.Small)).Snapshot.Trials[0];
        var one = (await cluster.RunAsync("one", TestSpecs.Small with { Resources = new ResourceSpec { SlotsPerTrial = new SlotsSpec { Max = 1 }, Priority = 3, Weight = 2 } })).Snapshot.Trials[0];
        Assert.Equal(all.ParametersSha256, one.ParametersSha256);
        Assert.Single(Contributions("one").Select(contribution => contribution.Worker).Distinct());
        Assert.Equal(2, Contributions("all").Select(contribution => contribution.Worker).Distinct().Count());

        var spec = TestSpecs.Small with { Resources = new ResourceSpec { SlotsPerTrial = new SlotsSpec { Min = 3 } } };
        await cluster.Experiment("three").SubmitAsync(TestSpecs.Submission(spec), TestContext.Current.CancellationToken);
        var alone = (await cluster.RunAsync("meanwhile", TestSpecs.Small)).Snapshot.Trials[0];
        Assert.Equal(all.ParametersSha256, alone.ParametersSha256);
        Assert.Equal(0, (await cluster.Experiment("three").GetSnapshotAsync(TestContext.Current.CancellationToken))!.Trials[0].Step);
        await cluster.Cluster.StartAdditionalSiloAsync();
        Assert.Equal(all.ParametersSha256, (await cluster.FollowAsync("three")).Snapshot.Trials[0].ParametersSha256);

        IEnumerable<LedgerContribution> Contributions(string id) =>
            new RunFolder(cluster.Folder).Ledger(id, 0).SelectMany(file => file.Lines).SelectMany(line => LedgerRecord.Parse(line)!.Contributions);
    }

    [Fact]
    public async Task SiloKilledInMidShard_StepIsRedoneWithEqualBits()
    {
        await using var calm = await SmallCluster.StartAsync(1);
        var expected = (await calm.RunAsync("calm", TestSpecs.Small)).Snapshot.Trials[0];

        var script = new EngineScript();
        var reached = new TaskCompletionSource();
        var first = 0;
        await using var cluster = await SmallCluster.StartAsync(2, script);
        var victim = cluster.Cluster.Silos[1];
        script.BeforeShard = (silo, step, _, token) =>
        {
            if (silo == victim.Name && step == 2 && Interlocked.Exchange(ref first, 1) == 0)
            {
                reached.TrySetResult();
                token.WaitHandle.WaitOne();
                token.ThrowIfCancellationRequested();
            }
        };
        await cluster.Experiment("kill").SubmitAsync(TestSpecs.Submission(TestSpecs.Small), TestContext.Current.CancellationToken);
        await reached.Task.WaitAsync(TimeSpan.FromSeconds(120), TestContext.Current.CancellationToken);
        await cluster.Cluster.KillSiloAsync(victim, TestContext.Current.CancellationToken);
        var (snapshot, events) = await cluster.FollowAsync("kill");
        Assert.Equal(RunState.Succeeded, snapshot.Summary.State);
        Assert.Equal(expected.ParametersSha256, snapshot.Trials[0].ParametersSha256);
        Assert.Equal(Enumerable.Range(1, events.Count).Select(i => (long)i), events.Select(e => e.Sequence));
        Assert.Equal(expected.LossHistory, snapshot.Trials[0].LossHistory);
    }

    [Fact]
    public async Task WorkerStuckInAShard_AnotherTakesItOver()
    {
        await using var calm = await SmallCluster.StartAsync(1);
        var expected = (await calm.RunAsync("calm", TestSpecs.Small)).Snapshot.Trials[0];

        var script = new EngineScript();
        var first = 0;
        script.BeforeShard = (_, step, _, token) =>
        {
            if (step == 2 && Interlocked.Exchange(ref first, 1) == 0)
            {
                token.WaitHandle.WaitOne();
                token.ThrowIfCancellationRequested();
            }
        };
        await using var cluster = await SmallCluster.StartAsync(2, script);
        var (snapshot, _) = await cluster.RunAsync("stuck", TestSpecs.Small);
        Assert.Equal(RunState.Succeeded, snapshot.Summary.State);
        Assert.Equal(expected.ParametersSha256, snapshot.Trials[0].ParametersSha256);
        Assert.True(snapshot.Trials[0].ShardsReissued >= 1);
    }
}
