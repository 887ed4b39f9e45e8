using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Grains.Workers;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Replays;

/// <summary>Where a <see cref="StepReplayRun"/> lives in a silo.</summary>
internal sealed class StepReplayGrain(
    IGrainFactory grains,
    SiloFolders folders,
    IDisk disk,
    IWorkerInventory inventory,
    TensorTransfer transfer,
    Background background,
    IHostApplicationLifetime lifetime,
    TimeProvider time,
    AdjointDpmInstruments instruments,
    ILogger<StepReplayGrain> logger) : Grain, IStepReplayGrain
{
    private StepReplayRun? _run;

    public Task<StepReplay> ReplayAsync(CancellationToken cancellationToken = default)
    {
        var dispatch = new ShardDispatch(grains, inventory, transfer, time, instruments, logger);
        _run ??= new StepReplayRun(new GrainActivation(this, grains), folders, disk, inventory, dispatch, transfer, background, time, lifetime.ApplicationStopping);
        return Task.FromResult(_run.Progress());
    }
}
