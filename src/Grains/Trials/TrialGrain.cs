using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Trials;

/// <summary>Where a <see cref="TrialRun"/> lives in a silo.</summary>
[CoordinatorPlacement]
internal sealed class TrialGrain : Grain, ITrialGrain
{
    private readonly TrialRun _run;

    public TrialGrain(
        [PersistentState("trial", StorageNames.State)] IPersistentState<TrialState> storage,
        IGrainFactory grains,
        SiloFolders folders,
        IDisk disk,
        IArtifacts artifacts,
        IWorkerInventory inventory,
        TensorTransfer transfer,
        Background background,
        IHostApplicationLifetime lifetime,
        TimeProvider time,
        AdjointDpmInstruments instruments,
        WorkerOptions workers,
        ILogger<TrialGrain> logger) =>
        _run = new TrialRun(new GrainActivation(this, grains), storage, folders, disk, artifacts, inventory, transfer, background, time, instruments, logger, workers.RangeBytes, lifetime.ApplicationStopping);

    public override Task OnActivateAsync(CancellationToken cancellationToken) => _run.ActivateAsync();

    public Task StartAsync(TrialAssignment assignment) => _run.StartAsync(assignment);

    public Task CancelAsync()
    {
        _run.Cancel();
        return Task.CompletedTask;
    }

    public Task PauseAsync()
    {
        _run.Pause();
        return Task.CompletedTask;
    }

    public Task StopAsync(string reason)
    {
        _run.Stop(reason);
        return Task.CompletedTask;
    }
}
