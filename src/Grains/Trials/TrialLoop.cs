using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Trials.Ranges;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Trials;

/// <summary>The phases of a trial, each step and each phase of some length ending in one commit; between two commits everything can be done again with equal bits.</summary>
internal sealed partial class TrialLoop(
    TrialStore store,
    TrialFiles files,
    IReadOnlyList<LedgerRecord> committed,
    string artifactFolder,
    ShardDispatch dispatch,
    AttemptMarks marks,
    TensorTransfer transfer,
    Background background,
    Func<int, RangedParameters> ranges,
    int rangeBytes,
    TrialReporter reporter,
    TrialWishes wishes,
    Func<int, TrialFiles> filesOf,
    TimeProvider time,
    AdjointDpmInstruments instruments,
    LiveTrial live,
    ILogger logger,
    CancellationToken stopping)
{
    /// <summary>A phase that took less is committed with the next one: done again it takes no longer.</summary>
    private static readonly TimeSpan Brief = TimeSpan.FromSeconds(1);

    private readonly ExperimentSpec _spec = TrialSpecs.Of(store.State.Assignment!.SpecJson);
    private readonly Queue<(string Parameters, string? Optimizer)> _kept = new();
    private readonly StepProfiles _profiles = new(files, time);
    private ITrainedParameters? _trained;
    private TensorReference[]? _residuals;
    private int _losses;
    private long _committedAt = time.GetTimestamp();

    private TrialState State => store.State;

    /// <summary>Runs from the committed phase and step to the end.</summary>
    /// <exception cref="WorkFailedException">The trial cannot succeed.</exception>
    public async Task RunAsync()
    {
        try
        {
            // Two more than are kept, which a crash may have left.
            foreach (var record in committed.TakeLast(Math.Max(_spec.Checkpoint.KeepSteps ?? 0, EncodedGradient.Since(_spec.Training, EncodedGradient.Window - 1)) + 3))
                _kept.Enqueue((record.ParametersSha256, record.OptimizerSha256));
            Show();
            await KeepAsync(running: true);
            while (State.State == RunState.Running)
            {
                if (wishes.Until > State.Until)
                    State.Until = wishes.Until;
                if (wishes.Cancelled)
                {
                    await EndAsync(RunState.Cancelled, "It was cancelled.");
                    return;
                }
                if (wishes.StopReason is { } reason)
                {
                    await EndAsync(RunState.Stopped, reason);
                    return;
                }
                if (wishes.Paused || Rests())
                    return;
                reporter.Kick(stopping);
                try
                {
                    await AdvanceAsync();
                    _losses = 0;
                }
                catch (RangeLostException e)
                {
                    await LostAsync(e);
                }
                catch (WorkerMemoryException e)
                {
                    await LeanAsync(e);
                }
            }
        }
        finally
        {
            _trained?.Release();
        }
    }

    private async Task AdvanceAsync()
    {
        if (State.ParametersSha256 is { } parameters && _trained is null)
            await LoadAsync(parameters);
        switch (State.Phase)
        {
            case TrialPhase.Preparing:
                await PrepareAsync();
                break;
            case TrialPhase.Proving:
                await ProveAsync();
                break;
            case TrialPhase.EvaluatingBefore:
                await EvaluateAsync(WorkKind.EvaluateBefore, "before", TrialPhase.Training);
                break;
            case TrialPhase.Training when IsLookDue():
                await GuardAsync();
                break;
            case TrialPhase.Training when IsAtLook():
                await LookAsync();
                break;
            case TrialPhase.Training when State.Step < _spec.Training.Steps && _spec.Train.Target != TrainTarget.None:
                await StepAsync();
                break;
            case TrialPhase.Training:
                // Follows from the last step: it needs no commit of its own.
                State.Phase = TrialPhase.EvaluatingAfter;
                break;
            case TrialPhase.EvaluatingAfter:
                await EvaluateAsync(WorkKind.EvaluateAfter, "after", TrialPhase.Saving);
                break;
            case TrialPhase.Saving:
                await SaveAsync();
                break;
        }
    }

    /// <summary>A range of the parameters is gone with its silo: they are placed anew from the last commit, and what was not committed is done again.</summary>
    private async Task LostAsync(RangeLostException e)
    {
        instruments.TrialRetried(TrialRetry.Range);
        LogRangeLost(logger, ITrialGrain.KeyOf(State.Assignment!.Experiment, State.Assignment.Index), State.Step + 1, e.Message);
        _trained?.Release();
        _trained = null;
        await Task.Delay(ShardScheduling.RestAfter(++_losses), time, stopping);
        // Perhaps another coordinator has them.
        await store.ReloadAsync();
    }

    /// <summary>Asks for less memory, once: the step is done again one sample at a time, and so are all after it. A committed fact, so that its bits have one meaning.</summary>
    private async Task LeanAsync(WorkerMemoryException e)
    {
        if (State.LeanFrom is not null)
            throw new WorkFailedException($"{e.Message} It was one sample at a time already, which is the least this trial can do with. Choose gradient.method: checkpointed, train fewer parameters or lora, set model.dtype: bfloat16, or use a device with more memory; adpm plan tells what each takes.");
        State.LeanFrom = State.Step + 1;
        // Tokens of their own: nothing that was asked for before can be taken for what is asked for now, whatever becomes of this commit.
        State.Epoch++;
        instruments.TrialRetried(TrialRetry.Memory);
        LogLean(logger, ITrialGrain.KeyOf(State.Assignment!.Experiment, State.Assignment.Index), State.Step + 1, e.Message);
        await CommitAsync();
        files.Epoch = State.Epoch;
        // What was lost to too much work says nothing of less.
        marks.Clear(_ => true);
        // Ranges have claims of their epoch, and gathered what counts no more.
        _trained?.Release();
        _trained = null;
    }

    public async Task EndAsync(RunState state, string? reason)
    {
        await _profiles.WriteAsync(now: true);
        (State.State, State.Reason, State.EndedAt) = (state, reason, time.GetUtcNow());
        await CommitAsync();
        if (state is RunState.Succeeded or RunState.Stopped)
            await KeepAsync(running: false);
    }

    private async Task LoadAsync(string parameters)
    {
        if (await files.PartsAsync(parameters) is { } parts)
        {
            var ranged = ranges(parts.Parts[0].Parameters * sizeof(float));
            await ranged.PlaceAsync(State.Step, parameters, State.OptimizerSha256);
            _trained = ranged;
            return;
        }
        var optimizer = State.OptimizerSha256 is { } sha ? TrialFiles.Floats(await files.ReadAsync(sha)) : [];
        _trained = Whole(await files.ReadAsync(parameters), optimizer);
    }

    private WholeParameters Whole(byte[] parameters, float[] optimizer) => new(parameters, optimizer, files, transfer, background, _spec, time, instruments);

    private async Task PrepareAsync()
    {
        WorkResult? prepared = null;
        byte[]? parameters = null;
        string? sha = null;
        RangedParameters? ranged = null;
        // Noise moves sample by sample: all of it stays in one place.
        var origin = State.Assignment!.Origin;
        var pieces = _spec.Train.Target is TrainTarget.Weights or TrainTarget.Lora && origin is null ? rangeBytes : 0;
        await dispatch.RunAsync(Round(WorkKind.Prepare, 1, token => Assignment(token) with { PieceBytes = pieces }, (_, result, bytes) => (prepared, parameters) = (result, bytes)) with
        {
            Collect = async (result, cancellationToken) =>
            {
                if (pieces == 0 || result.Blob!.Length <= pieces)
                    return await transfer.FetchAsync(result.Blob!, cancellationToken);
                // The silos that will own the parameters fetch them: they may be too many for this one.
                ranged = ranges(rangeBytes);
                sha = await ranged.PlaceAsync(result.Blob);
                return null;
            },
        }, stopping);
        if (ranged is null && parameters is not { Length: > 0 })
            throw new WorkFailedException("Nothing is trained: no parameter of the model matches train.include. List the model's parameter names and correct the patterns.");
        if (origin is not null)
        {
            var own = parameters!.Length;
            parameters = await filesOf(origin.Trial).ReadAsync(origin.ParametersSha256);
            if (parameters.Length != own)
                throw new WorkFailedException($"It cannot go on with the parameters of trial {origin.Trial}: those have {parameters.Length} bytes, its own {own}.");
        }
        _trained = ranged is not null ? ranged : Whole(parameters!, []);
        sha ??= await files.WriteAsync(parameters!, Durability.BeforeTheNext);
        (State.ModelSha256, State.InitialSha256, State.ParametersSha256) = (prepared!.ModelSha256!, sha, sha);
        State.Phase = TrialPhase.Proving;
        var (training, assignment) = (_spec.Training, State.Assignment!);
        await RecordAsync(Record(0, new Dictionary<string, double>()) with
        {
            Plan = new LedgerPlan(assignment.SpecJson, assignment.SpecSha256, State.ModelSha256, _spec.Gradient.Check.Mode == ProofMode.Only || _spec.Train.Target == TrainTarget.None ? 0 : training.Steps, training.Shards, training.SamplesPerShard),
        });
        // Ranges are placed anew from what is committed.
        await (ranged is not null ? CommitAsync() : CommitLaterAsync());
        _kept.Enqueue((sha, null));
    }

    /// <summary>Before anything is trained: is the gradient what it is said to be?</summary>
    private async Task ProveAsync()
    {
        var mode = _spec.Gradient.Check.Mode;
        if (mode != ProofMode.Off)
        {
            byte[]? bytes = null;
            await dispatch.RunAsync(Round(WorkKind.Prove, 1, token => Assignment(token), (_, _, content) => bytes = content), stopping);
            var proof = GradientProofReport.Parse(bytes);
            await files.WriteProofAsync(bytes!);
            State.Proof = proof.Summary();
            if (mode == ProofMode.Only || (proof.Exact && !proof.Passed))
            {
                await EndAsync(proof.Passed ? RunState.Succeeded : RunState.Failed, proof.Passed ? null : $"The gradient ({proof.Method}) is not proven: {proof.Findings[0]}");
                return;
            }
        }
        State.Phase = TrialPhase.EvaluatingBefore;
        if (mode != ProofMode.Off)
            await CommitAsync();
    }

    private async Task StepAsync()
    {
        using var span = Traces.Start("step")?.SetTag("adjointdpm.step", State.Step + 1);
        var (trained, shards) = (_trained!, new WorkResult[_spec.Training.Shards]);
        trained.Begin(shards.Length);
        var clock = new Stopwatch(time);
        var (residuals, window) = (Residuals(), Window());
        var pieceBytes = trained.PieceBytes / sizeof(float) * EncodedGradient.BytesPerNumber(_spec.Training, State.Step);
        var round = Round(WorkKind.Gradient, shards.Length, token => Assignment(token) with { PieceBytes = pieceBytes, Residual = residuals?[token.Shard], Window = window, VersionFolder = window is null ? null : files.Folder }, (shard, result, bytes) =>
            {
                shards[shard] = result;
                trained.Accept(shard, result, bytes);
            }) with
        { Collect = trained.CollectAsync };
        round.Ledger.Homes = residuals?.Select(residual => residual.Location).ToArray();
        await dispatch.RunAsync(round, stopping);
        var waited = clock.Lap();

        var step = State.Step + 1;
        SteppedVersion version;
        using (Traces.Start("reduce"))
            version = await trained.StepAsync(step);
        var (norm, parameters, optimizer, reduced) = version;
        var optimized = clock.Lap() - reduced;
        if (!double.IsFinite(norm))
        {
            instruments.GradientNotFinite();
            throw new WorkFailedException($"Step {step}: the gradient's norm is {norm}. Lower optimizer.learningRate, or set optimizer.maxNorm.");
        }

        (State.ParametersSha256, State.OptimizerSha256) = (parameters, optimizer);
        var metrics = StepUpdate.Metrics(shards, norm);
        foreach (var (name, value) in metrics)
            State.Metrics[name] = value;
        Count(shards, isTraining: true);
        State.Step = step;
        var record = Record(shards.Sum(shard => shard.Weight), metrics) with
        {
            Contributions = round.Ledger.Contributions,
            Lean = State.LeanFrom is null ? null : true,
            Residuals = shards[0].Residual is null ? null : [.. shards.Select(shard => shard.Residual!.Sha256)],
        };
        await RecordAsync(record);
        await CommitAsync();

        // The step is committed: from here on nothing needs the version before it, except for replays, and the very first for the pictures.
        var seconds = new StepSeconds(waited, reduced, optimized, clock.Lap());
        instruments.StepCommitted(seconds);
        _profiles.Step(step, shards, seconds);
        await _profiles.WriteAsync(now: step == _spec.Training.Steps);
        reporter.Step(StepRecord.Of(record));
        _kept.Enqueue((State.ParametersSha256, State.OptimizerSha256));
        trained.Committed();
        _residuals = shards[0].Residual is null ? null : [.. shards.Select(shard => shard.Residual!)];
        await KeepAsync(running: true);
    }

    /// <summary>What the step before left of each shard's gradient; null when that was sent in full.</summary>
    private TensorReference[]? Residuals()
    {
        if (EncodedGradient.Since(_spec.Training, State.Step) == 0)
            return null;
        // After a restart the ledger knows what was left and who had it; perhaps that worker still does.
        if (_residuals is null && committed[^1] is { Residuals: { } left } record && record.Step == State.Step)
        {
            var workers = record.Contributions.Where(contribution => contribution.Outcome == ContributionOutcome.Accepted).ToDictionary(contribution => contribution.Shard, contribution => contribution.Worker);
            _residuals = [.. left.Select((sha, shard) => new TensorReference(sha, _trained!.Reference.Length, WorkerInventory.SiloOf(workers[shard])))];
        }
        return _residuals ?? throw new InvalidDataException($"The ledger does not say what step {State.Step} left of its gradients. Restore the data folder or submit the experiment anew.");
    }

    /// <summary>Versions that the steps since the last full gradient began with.</summary>
    private List<string>? Window()
    {
        var since = EncodedGradient.Since(_spec.Training, State.Step);
        return since == 0 ? null : [.. _kept.SkipLast(1).TakeLast(since).Select(version => version.Parameters)];
    }

    private async Task SaveAsync()
    {
        using var span = Traces.Start("save");
        var initial = await _trained!.OfferAsync(State.InitialSha256!);
        var final = await FinalAsync();
        var metricsFile = await files.WriteMetricsAsync(reporter.Steps);
        await dispatch.RunAsync(
            Round(WorkKind.Save, 1,
                token => Assignment(token) with { Parameters = final, InitialParameters = initial, ArtifactFolder = artifactFolder, MetricsFile = metricsFile },
                (_, _, _) => { }),
            stopping);
        await EndAsync(RunState.Succeeded, null);
    }

    private WorkRound Round(WorkKind kind, int shards, Func<ShardToken, WorkAssignment> assign, Action<int, WorkResult, byte[]?> accept) => new()
    {
        Ledger = new StepLedger(ITrialGrain.KeyOf(State.Assignment!.Experiment, State.Assignment.Index), State.Epoch, kind, State.Step, shards),
        Device = _spec.Resources.Device,
        Rotation = State.Assignment.Index,
        Slots = _spec.Resources.SlotsPerTrial ?? new SlotsSpec(),
        Lease = TimeSpan.FromSeconds(_spec.Failure.LeaseSeconds),
        MaxAttempts = _spec.Failure.MaxShardAttempts,
        Marks = marks,
        Assign = assign,
        Accept = accept,
        Check = _trained is { } trained ? trained.CheckAsync : null,
        Reissued = (token, worker) =>
        {
            State.ShardsReissued++;
            reporter.Reissue(new ShardReissue(token.Step, token.Shard, token.Attempt, worker));
            reporter.Kick(stopping);
        },
    };

    private WorkAssignment Assignment(ShardToken token) => new()
    {
        Token = token,
        SpecJson = State.Assignment!.SpecJson,
        SpecSha256 = State.Assignment.SpecSha256,
        Parameters = _trained?.Reference,
        ModelSha256 = State.ModelSha256,
        LeanFrom = State.LeanFrom,
        Priority = _spec.Resources.Priority ?? 0,
        Weight = _spec.Resources.Weight ?? 1,
    };

    private void Count(IEnumerable<WorkResult> parts, bool isTraining)
    {
        foreach (var part in parts)
            State.Totals = State.Totals.Plus(part.Statistics, isTraining);
    }

    /// <summary>Laps of a monotonic clock, in seconds.</summary>
    private sealed class Stopwatch(TimeProvider time)
    {
        private long _last = time.GetTimestamp();

        public double Lap()
        {
            var now = time.GetTimestamp();
            var lap = time.GetElapsedTime(_last, now).TotalSeconds;
            _last = now;
            return lap;
        }
    }
}
