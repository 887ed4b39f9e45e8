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
using Orleans.Storage;

namespace AdjointDpm.Grains.Trials;

/// <summary>Owns one trial: decides when it runs and whether it still may; <see cref="TrialLoop"/> does the work.</summary>
internal sealed partial class TrialRun(
    IActivation activation,
    IPersistentState<TrialState> storage,
    SiloFolders folders,
    IDisk disk,
    IArtifacts artifacts,
    IWorkerInventory inventory,
    TensorTransfer transfer,
    Background background,
    TimeProvider time,
    AdjointDpmInstruments instruments,
    ILogger logger,
    int rangeBytes,
    CancellationToken stopping)
{
    private const int MostErrors = 5;

    private readonly TrialStore _store = new(storage, state => state.State == RunState.Succeeded ? artifacts.PlaceOf(state.Assignment!.Experiment, state.Assignment.Index) : null);
    private Task? _run;
    private TrialReporter? _reporter;
    private readonly TrialWishes _wishes = new();
    private readonly RangeOwners _owners = new(time);
    private bool _again;
    private bool _fresh;
    private bool _retried;
    private int _placements;

    private TrialState State => _store.State;

    public async Task ActivateAsync()
    {
        if (!_store.Exists)
            return;
        if (TrialTable.IsEnded(State.State))
        {
            // Nothing is left to claim, but perhaps the end to be told.
            _store.Publish();
            return;
        }
        // Claims the row: a coordinator that still runs elsewhere holds a stale ETag from now on and cannot commit.
        State.Epoch++;
        await _store.CommitAsync();
        instruments.CoordinatorRecovered();
        LogRecovered(logger, activation.Key, State.Step, State.Epoch);
        Begin();
    }

    public async Task StartAsync(TrialAssignment assignment)
    {
        if (!_store.Exists)
        {
            (State.Assignment, State.State, State.Epoch, State.StartedAt) = (assignment, RunState.Running, 1, time.GetUtcNow());
            (State.Until, State.Attempt, State.CommittedAt) = (assignment.Until, assignment.Attempt, State.StartedAt);
            await _store.CommitAsync();
            _fresh = true;
            if (assignment.Since is { } since)
                instruments.TrialWaited(State.StartedAt.Value - since);
            LogStarted(logger, activation.Key);
        }
        else if (assignment.Attempt > State.Attempt && State.State is RunState.Failed or RunState.Cancelled)
        {
            // Tokens of their own, so that nothing that comes late of the former attempt counts.
            State.Epoch++;
            (State.Attempt, State.State, State.Reason, State.EndedAt, State.Until, State.CommittedAt) = (assignment.Attempt, RunState.Running, null, null, assignment.Until, time.GetUtcNow());
            await _store.CommitAsync();
            instruments.TrialRetried(TrialRetry.User);
            (_retried, _wishes.Cancelled, _wishes.StopReason) = (true, false, null);
            LogStarted(logger, activation.Key);
        }
        // Beside the state, which is read anew before work goes on. A message that comes late says less than is known.
        (_again, _wishes.Paused, _wishes.Until) = (true, false, assignment.Until > _wishes.Until ? assignment.Until : _wishes.Until ?? assignment.Until);
        Begin();
    }

    public void Cancel()
    {
        _wishes.Cancelled = true;
        Wake();
    }

    public void Pause() => _wishes.Paused = true;

    public void Stop(string reason)
    {
        _wishes.StopReason = reason;
        Wake();
    }

    /// <summary>A trial that rests must go on to end.</summary>
    private void Wake()
    {
        if (!_store.Exists || TrialTable.IsEnded(State.State))
            return;
        (_again, _wishes.Paused) = (true, false);
        Begin();
    }

    private void Begin()
    {
        if (_run is null || _run.IsCompleted)
            _run = RunAsync();
    }

    private async Task RunAsync()
    {
        // Never inside the caller's turn.
        await Task.Yield();
        using var keepAlive = activation.Every(TimeSpan.FromMinutes(1), TimeSpan.FromMinutes(1), () => Task.CompletedTask);
        var assignment = State.Assignment!;
        using var live = instruments.TrialLives(assignment.Experiment, assignment.Index);
        using var span = Traces.Start("trial", assignment.Trace)?.SetTag("adjointdpm.trial", activation.Key).SetTag("adjointdpm.epoch", State.Epoch);
        try
        {
            do
            {
                _again = false;
                await AdvanceAsync(Files(State.Assignment!.Index), live);
                await _reporter!.FlushAsync(stopping);
            }
            while (_again && !_wishes.Paused && !TrialTable.IsEnded(State.State));
        }
        catch (InconsistentStateException)
        {
            LogFenced(logger, activation.Key);
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested)
        {
            // The silo stops; another one goes on from the last commit.
        }
        finally
        {
            activation.Deactivate();
        }
    }

    private TrialFiles Files(int trial) => new(disk, background, folders.TrialWork(State.Assignment!.Experiment, trial), State.Epoch, folders.Hold);

    private async Task AdvanceAsync(TrialFiles files, LiveTrial live)
    {
        var (errors, outages, progress) = (0, 0, (TrialPhase.Preparing, -1));
        while (true)
        {
            try
            {
                // What is in memory may be a change whose commit failed. Of a trial that has just been made nothing lies anywhere yet.
                if (!_fresh)
                    await _store.ReloadAsync();
                var marks = new AttemptMarks(disk, folders, inventory, activation.Key);
                if (!_fresh)
                    await marks.ReadAsync();
                // Who tries again means the trial to have its chances anew.
                if (_retried)
                    marks.Clear(_ => true);
                _retried = false;
                var (fresh, records) = (_fresh, _fresh ? [] : await files.RecoverAsync(State.Step, State.LedgerSha256));
                _reporter = new TrialReporter(activation.Grains.GetGrain<ITrialReportsGrain>(State.Assignment!.Experiment), _store, [.. records.Skip(1).Select(StepRecord.Of)], fresh, time, logger);
                if (TrialTable.IsEnded(State.State))
                    return;
                // Only errors that let nothing be committed between them add up: a long run may meet many.
                if (progress != (progress = (State.Phase, State.Step)))
                    (errors, outages) = (0, 0);
                var loop = Loop(files, records, marks, live);
                try
                {
                    if (fresh)
                        await files.RequireNoneAsync();
                    _fresh = false;
                    await loop.RunAsync();
                }
                catch (Exception e) when (e is WorkFailedException or InvalidDataException or SpecException)
                {
                    await loop.EndAsync(RunState.Failed, e.Message);
                }
                if (!TrialTable.IsEnded(State.State))
                    return;
                instruments.TrialEnded(State.State.ToString().ToLowerInvariant());
                LogEnded(logger, activation.Key, State.State, State.Step, State.Reason ?? "");
                return;
            }
            catch (Exception e) when (StorageAwayException.Is(e))
            {
                // No doing of the trial's: it waits, however long that takes.
                instruments.TrialRetried(TrialRetry.Storage);
                var pause = StorageAwayException.Pause(++outages);
                LogStorageAway(logger, activation.Key, pause.TotalSeconds, e.Message);
                await Task.Delay(pause, time, stopping);
            }
            catch (Exception e) when (e is not (InconsistentStateException or OperationCanceledException) && ++errors <= MostErrors)
            {
                instruments.TrialRetried(TrialRetry.Error);
                LogError(logger, activation.Key, errors, MostErrors, e);
                await Task.Delay(TimeSpan.FromSeconds(errors), time, stopping);
                if (errors < MostErrors)
                    continue;
                await _store.ReloadAsync();
                (State.State, State.Reason, State.EndedAt) = (RunState.Failed, $"Five attempts ended in an error; the last was: {e.Message}", time.GetUtcNow());
                await _store.CommitAsync();
            }
        }
    }

    private TrialLoop Loop(TrialFiles files, IReadOnlyList<LedgerRecord> records, AttemptMarks marks, LiveTrial live) => new(
        _store,
        files,
        records,
        artifacts.PlaceOf(State.Assignment!.Experiment, State.Assignment.Index),
        new ShardDispatch(activation.Grains, inventory, transfer, time, instruments, logger),
        marks,
        transfer,
        background,
        pieceBytes => new RangedParameters(activation.Grains, inventory, _owners, files, State.Assignment!, new RangeClaim(State.Epoch, ++_placements), pieceBytes, time, logger),
        rangeBytes,
        _reporter!,
        _wishes,
        Files,
        time,
        instruments,
        live,
        logger,
        stopping);
}
