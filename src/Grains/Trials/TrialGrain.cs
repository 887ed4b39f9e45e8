using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Storage;

namespace AdjointDpm.Grains.Trials;

/// <summary>Owns one trial: decides when it runs and whether it still may; <see cref="TrialLoop"/> does the work.</summary>
internal sealed partial class TrialGrain(
    [PersistentState("trial", StorageNames.State)] IPersistentState<TrialState> storage,
    SiloFolders folders,
    IWorkerInventory inventory,
    TensorTransfer transfer,
    IHostApplicationLifetime lifetime,
    TimeProvider time,
    AdjointDpmInstruments instruments,
    ILogger<TrialGrain> logger,
    ILogger<ShardDispatch> dispatchLogger) : Grain, ITrialGrain
{
    private const int MostErrors = 5;

    private Task? _run;
    private TrialReporter? _reporter;
    private bool _cancelled;

    private TrialState State => storage.State;

    private string Key => this.GetPrimaryKeyString();

    public override async Task OnActivateAsync(CancellationToken cancellationToken)
    {
        if (!storage.RecordExists || IsEnded(State.State))
            return;
        // Claims the row: a coordinator that still runs elsewhere holds a stale ETag from now on and cannot commit.
        State.Epoch++;
        await storage.WriteStateAsync(cancellationToken);
        instruments.CoordinatorRecovered();
        LogRecovered(logger, Key, State.Step, State.Epoch);
        Begin();
    }

    public async Task StartAsync(TrialAssignment assignment)
    {
        if (!storage.RecordExists)
        {
            (State.Assignment, State.State, State.Epoch, State.StartedAt) = (assignment, RunState.Running, 1, time.GetUtcNow());
            await storage.WriteStateAsync();
            LogStarted(logger, Key);
        }
        Begin();
    }

    public Task CancelAsync()
    {
        _cancelled = true;
        return Task.CompletedTask;
    }

    private static bool IsEnded(RunState state) => state is RunState.Succeeded or RunState.Failed or RunState.Cancelled;

    private void Begin()
    {
        if (_run is null || _run.IsCompleted)
            _run = RunAsync();
    }

    private async Task RunAsync()
    {
        // Never inside the caller's turn.
        await Task.Yield();
        using var keepAlive = this.RegisterGrainTimer(_ => Task.CompletedTask, new GrainTimerCreationOptions(TimeSpan.FromMinutes(1), TimeSpan.FromMinutes(1)) { KeepAlive = true, Interleave = true });
        instruments.TrialActive(+1);
        try
        {
            var files = new TrialFiles(folders.TrialWork(State.Assignment!.Experiment, State.Assignment.Index));
            await AdvanceAsync(files);
            await _reporter!.FlushAsync(lifetime.ApplicationStopping);
        }
        catch (InconsistentStateException)
        {
            LogFenced(logger, Key);
        }
        catch (OperationCanceledException) when (lifetime.ApplicationStopping.IsCancellationRequested)
        {
            // The silo stops; another one goes on from the last commit.
        }
        finally
        {
            instruments.TrialActive(-1);
            DeactivateOnIdle();
        }
    }

    private async Task AdvanceAsync(TrialFiles files)
    {
        for (var errors = 0; ; )
        {
            try
            {
                _reporter = new TrialReporter(GrainFactory.GetGrain<ITrialReportsGrain>(State.Assignment!.Experiment), State, Snapshot, await files.RecoverAsync(State.Step), time, logger);
                if (IsEnded(State.State))
                    return;
                var loop = Loop(files);
                try
                {
                    await loop.RunAsync();
                }
                catch (Exception e) when (e is WorkFailedException or InvalidDataException or SpecException)
                {
                    await loop.EndAsync(RunState.Failed, e.Message);
                }
                instruments.TrialEnded(State.State.ToString().ToLowerInvariant());
                LogEnded(logger, Key, State.State, State.Step, State.Reason ?? "");
                return;
            }
            catch (Exception e) when (e is not (InconsistentStateException or OperationCanceledException) && ++errors <= MostErrors)
            {
                LogError(logger, Key, errors, MostErrors, e);
                await Task.Delay(TimeSpan.FromSeconds(errors), time, lifetime.ApplicationStopping);
                await storage.ReadStateAsync();
                if (errors < MostErrors)
                    continue;
                (State.State, State.Reason, State.EndedAt) = (RunState.Failed, $"Five attempts ended in an error; the last was: {e.Message}", time.GetUtcNow());
                await storage.WriteStateAsync();
            }
        }
    }

    private TrialLoop Loop(TrialFiles files) => new(
        storage,
        files,
        folders.TrialArtifacts(State.Assignment!.Experiment, State.Assignment.Index),
        new ShardDispatch(GrainFactory, inventory, transfer, time, instruments, dispatchLogger),
        transfer,
        _reporter!,
        () => _cancelled,
        time,
        instruments,
        lifetime.ApplicationStopping);

    private TrialSnapshot Snapshot() => new()
    {
        Index = State.Assignment!.Index,
        State = State.State,
        Parameters = State.Assignment.Parameters,
        Step = State.Step,
        Steps = ExperimentSpecJson.Deserialize(State.Assignment.SpecJson).Training.Steps,
        Phase = IsEnded(State.State) ? null : State.Phase switch
        {
            TrialPhase.Preparing => "loading",
            TrialPhase.Training => "training",
            TrialPhase.Saving => "saving",
            _ => "evaluating",
        },
        Metrics = new Dictionary<string, double>(State.Metrics),
        ParametersSha256 = State.ParametersSha256,
        Reason = State.Reason,
        LossHistory = [],
        StartedAt = State.StartedAt,
        EndedAt = State.EndedAt,
        ArtifactFolder = State.State == RunState.Succeeded ? folders.TrialArtifacts(State.Assignment.Experiment, State.Assignment.Index) : null,
        ShardsReissued = State.ShardsReissued,
    };
}
