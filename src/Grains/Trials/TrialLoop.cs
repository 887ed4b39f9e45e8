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

    /// <summary>The first moments of a step are its workers', whose parameters are on their way: writing and hashing the version then would hold them up where processors are few. Steps that take less than twice as long have no such moments.</summary>
    private static readonly TimeSpan Courtesy = TimeSpan.FromMilliseconds(20);

    /// <summary>A trial whose ranges are lost so often in a row does not get on with them.</summary>
    internal const int MostRangeLosses = 20;

    /// <summary>How often a trial that is over asks whether the folder is saved still.</summary>
    private static readonly TimeSpan Held = TimeSpan.FromSeconds(2);

    private readonly ExperimentSpec _spec = TrialSpecs.Of(store.State.Assignment!.SpecJson);
    private readonly Queue<KeptVersion> _kept = new();
    private readonly StepProfiles _profiles = new(files, time);
    private ITrainedParameters? _trained;
    private TensorReference[]? _residuals;
    private Task? _committing;
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
                _kept.Enqueue(new KeptVersion(record.ParametersSha256) { Optimizer = record.OptimizerSha256 });
            Show();
            await KeepAsync(running: true);
            while (State.State == RunState.Running)
            {
                // Only another step may begin before the one before it is committed.
                if (!IsStepNext())
                    await SettleAsync();
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
                    if (_losses == MostRangeLosses)
                        throw new WorkFailedException($"Step {State.Step + 1} was begun {_losses + 1} times, and each time a range of the parameters was lost. The last: {e.Message} See that silos stay in the cluster, and that they can bring over and write Workers:RangeBytes.");
                    await LostAsync(e, ShardScheduling.RestAfter(++_losses));
                }
                catch (NoOwnersException e)
                {
                    await LostAsync(e, ShardScheduling.RestAfter(3));
                }
                catch (WorkerMemoryException e)
                {
                    await LeanAsync(e);
                }
                catch (UnlikeWorkersException e)
                {
                    LogUnlike(logger, ITrialGrain.KeyOf(State.Assignment!.Experiment, State.Assignment.Index), State.Step + 1, e.Message);
                    State.Arithmetic.Add(new ArithmeticSince(State.Step + 1, e.Kind));
                    await AnewAsync();
                }
            }
        }
        finally
        {
            // Whoever reads the state next must not meet a commit under way. What became of it, the state says.
            if (_committing is { } left)
                await Task.WhenAny(left);
            _trained?.Release();
        }
    }

    /// <summary>Whether nothing is wanted but the next step.</summary>
    private bool IsStepNext() => State.Phase == TrialPhase.Training && State.Step < _spec.Training.Steps && _spec.Train.Target != TrainTarget.None && !IsPictureDue() && !IsLookDue() && !IsAtLook() && !Rests()
        && wishes is { Cancelled: false, StopReason: null, Paused: false } && !(wishes.Until > State.Until);

    private async Task AdvanceAsync()
    {
        if (State.ParametersSha256 is { } parameters && _trained is null)
            await LoadAsync(parameters);
        switch (State.Phase)
        {
            case TrialPhase.Preparing:
                await TimedAsync(PrepareAsync, (times, seconds) => times with { Load = times.Load + seconds });
                break;
            case TrialPhase.Proving:
                await TimedAsync(ProveAsync, (times, seconds) => times with { Prove = times.Prove + seconds });
                break;
            case TrialPhase.EvaluatingBefore:
                await TimedAsync(() => EvaluateAsync(WorkKind.EvaluateBefore, "before", TrialPhase.Training), Evaluated);
                break;
            case TrialPhase.Training when IsPictureDue():
                await TimedAsync(DrawAsync, (times, seconds) => times with { Draw = times.Draw + seconds });
                break;
            case TrialPhase.Training when IsLookDue():
                await TimedAsync(GuardAsync, Evaluated);
                break;
            case TrialPhase.Training when IsAtLook():
                await TimedAsync(LookAsync, Evaluated);
                break;
            case TrialPhase.Training when State.Step < _spec.Training.Steps && _spec.Train.Target != TrainTarget.None:
                await StepAsync();
                break;
            case TrialPhase.Training:
                // Follows from the last step: it needs no commit of its own.
                State.Phase = TrialPhase.EvaluatingAfter;
                break;
            case TrialPhase.EvaluatingAfter:
                await TimedAsync(() => EvaluateAsync(WorkKind.EvaluateAfter, "after", TrialPhase.Saving), Evaluated);
                break;
            case TrialPhase.Saving:
                await TimedAsync(SaveAsync, (times, seconds) => times with { Save = times.Save + seconds });
                await EndAsync(RunState.Succeeded, null);
                break;
        }
    }

    /// <summary>A range of the parameters is gone with its silo: they are placed anew from the last commit, and what was not committed is done again.</summary>
    private async Task LostAsync(Exception e, TimeSpan pause)
    {
        instruments.TrialRetried(TrialRetry.Range);
        LogRangeLost(logger, ITrialGrain.KeyOf(State.Assignment!.Experiment, State.Assignment.Index), State.Step + 1, e.Message);
        _trained?.Release();
        _trained = null;
        await Task.Delay(pause, time, stopping);
        // Perhaps another coordinator has them.
        await store.ReloadAsync();
    }

    /// <summary>Asks for less memory, once: the step is done again one sample at a time, and so are all after it. A committed fact, so that its bits have one meaning.</summary>
    private async Task LeanAsync(WorkerMemoryException e)
    {
        if (State.LeanFrom is not null)
            throw new WorkFailedException($"{e.Message} It was one sample at a time already, which is the least this trial can do with. Choose gradient.method: checkpointed, train fewer parameters or lora, set model.dtype: bfloat16, or use a device with more memory; adpm plan tells what each takes.");
        (State.LeanFrom, State.LeanReason) = (State.Step + 1, e.Reason);
        instruments.TrialRetried(TrialRetry.Memory);
        LogLean(logger, ITrialGrain.KeyOf(State.Assignment!.Experiment, State.Assignment.Index), State.Step + 1, e.Message);
        await AnewAsync();
        // What was lost to too much work says nothing of less.
        marks.Clear(_ => true);
    }

    /// <summary>Commits that what is done next is done otherwise.</summary>
    private async Task AnewAsync()
    {
        // Tokens of their own: nothing that was asked for before can be taken for what is asked for now, whatever becomes of this commit.
        State.Epoch++;
        await CommitAsync();
        files.Epoch = State.Epoch;
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
        var optimizer = State.OptimizerSha256 is { } sha ? await files.ReadAsync(sha) : [];
        _trained = Whole(await files.ReadAsync(parameters), optimizer);
    }

    private WholeParameters Whole(byte[] parameters, byte[] optimizer) => new(parameters, optimizer, files, transfer, background, _spec, time, instruments);

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
        Count([prepared!], isTraining: false);
        (State.ModelSha256, State.InitialSha256, State.ParametersSha256) = (prepared!.ModelSha256!, sha, sha);
        if (prepared.Statistics.Arithmetic is { } kind)
            State.Arithmetic = [new ArithmeticSince(1, kind)];
        State.Phase = TrialPhase.Proving;
        var (training, assignment) = (_spec.Training, State.Assignment!);
        await RecordAsync(Record(0, new Dictionary<string, double>()) with
        {
            Plan = new LedgerPlan(assignment.SpecJson, assignment.SpecSha256, State.ModelSha256, _spec.Gradient.Check.Mode == ProofMode.Only || _spec.Train.Target == TrainTarget.None ? 0 : training.Steps, training.Shards, training.SamplesPerShard),
        });
        // Ranges are placed anew from what is committed.
        await (ranged is not null ? CommitAsync() : CommitLaterAsync());
        _kept.Enqueue(new KeptVersion(sha));
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
        { Collect = trained.CollectAsync, Window = new GradientWindow(shards.Length) };
        round.Ledger.Homes = residuals?.Select(residual => residual.Location).ToArray();
        var settled = State.Totals.Times.Commit;
        await GatherAsync(round);
        // Of the commit of the step before only what was waited for when all gradients were there.
        var waited = clock.Lap() - (State.Totals.Times.Commit - settled);

        var step = State.Step + 1;
        SteppedVersion version;
        using (Traces.Start("reduce"))
            version = await trained.StepAsync(step);
        var optimized = clock.Lap() - version.ReduceSeconds;
        if (!double.IsFinite(version.Norm))
        {
            instruments.GradientNotFinite();
            throw new WorkFailedException($"Step {step}: the gradient's norm is {version.Norm}. Lower optimizer.learningRate, or set optimizer.maxNorm.");
        }

        State.ParametersSha256 = version.ParametersSha256;
        var metrics = StepUpdate.Metrics(shards, version.Norm);
        foreach (var (name, value) in metrics)
            State.Metrics[name] = value;
        Count(shards, isTraining: true);
        State.Step = step;
        var record = Record(shards.Sum(shard => shard.Weight), metrics) with
        {
            Contributions = round.Ledger.Contributions,
            Lean = State.LeanFrom is null ? null : true,
            Arithmetic = State.Arithmetic.Count > 1 ? State.Arithmetic[^1].Kind : null,
            Residuals = shards[0].Residual is null ? null : [.. shards.Select(shard => shard.Residual!.Sha256)],
        };
        var kept = new KeptVersion(version.ParametersSha256);
        _kept.Enqueue(kept);
        _residuals = shards[0].Residual is null ? null : [.. shards.Select(shard => shard.Residual!)];
        var isFollowed = trained.StepsAhead && waited >= 2 * Courtesy.TotalSeconds && IsStepNext();
        _committing = CommitStepAsync(record, kept, shards, version, isFollowed, new StepSeconds(waited, version.ReduceSeconds, optimized, 0));
        if (!trained.StepsAhead)
            await SettleAsync();
    }

    /// <summary>Gathers a step's gradients while the step before is committed, and returns when both is done.</summary>
    private async Task GatherAsync(WorkRound round)
    {
        try
        {
            // What these gradients begin with may turn out never to be committed.
            await dispatch.RunAsync(round with { Beside = _committing }, stopping);
        }
        finally
        {
            await SettleAsync();
        }
    }

    /// <summary>Steps whose encoded gradients left something for the next one. Workers of another kind begin with nothing: they could not compute again what is gone.</summary>
    private int EncodedSince => Math.Min(EncodedGradient.Since(_spec.Training, State.Step), State.Step + 1 - (State.Arithmetic.Count > 1 ? State.Arithmetic[^1].Step : 1));

    /// <summary>What the step before left of each shard's gradient; null when that was sent in full.</summary>
    private TensorReference[]? Residuals()
    {
        if (EncodedSince == 0)
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
        var since = EncodedSince;
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
    }

    private WorkRound Round(WorkKind kind, int shards, Func<ShardToken, WorkAssignment> assign, Action<int, WorkResult, byte[]?> accept) => new()
    {
        Ledger = new StepLedger(ITrialGrain.KeyOf(State.Assignment!.Experiment, State.Assignment.Index), State.Epoch, kind, State.Step, shards),
        Device = _spec.Resources.Device,
        Threads = _spec.Resources.Threads,
        Arithmetic = State.Arithmetic.Count > 0 ? State.Arithmetic[^1].Kind : null,
        UnlikeAfter = _spec.Failure.UnlikeAfterSeconds is { } patience ? TimeSpan.FromSeconds(patience) : ShardScheduling.UnlikeAfter,
        Rotation = State.Assignment.Index,
        Slots = _spec.Resources.SlotsPerTrial ?? new SlotsSpec(),
        Lease = TimeSpan.FromSeconds(_spec.Failure.LeaseSeconds),
        MaxAttempts = _spec.Failure.MaxShardAttempts,
        StragglerFactor = _spec.Failure.StragglerFactor ?? ShardScheduling.StragglerFactor,
        Stuck = _spec.Failure.StuckSeconds is { } seconds ? TimeSpan.FromSeconds(seconds) : null,
        MayAskForLess = State.LeanFrom is null,
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
            State.Totals = part.Statistics.AddedTo(State.Totals, isTraining);
    }

    /// <summary>Notes how long a phase took; committed with what comes next.</summary>
    private async Task TimedAsync(Func<Task> phase, Func<TrialTimes, double, TrialTimes> add)
    {
        var clock = new Stopwatch(time);
        await phase();
        Spend(times => add(times, clock.Lap()));
    }

    private void Spend(Func<TrialTimes, TrialTimes> add) => State.Totals = State.Totals with { Times = add(State.Totals.Times) };

    private static TrialTimes Evaluated(TrialTimes times, double seconds) => times with { Evaluate = times.Evaluate + seconds };

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
