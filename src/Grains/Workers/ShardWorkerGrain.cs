using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Trials;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Workers;

/// <summary>Where a <see cref="ShardWorker"/> lives in a silo, as long as the silo does: it counts what it has done.</summary>
[NamedSiloPlacement, CollectionAgeLimit(AlwaysActive = true)]
internal sealed class ShardWorkerGrain : Grain, IShardWorkerGrain
{
    private readonly ShardWorker _worker;

    public ShardWorkerGrain(IGrainFactory grains, IDevices devices, TensorTransfer transfer, IArtifacts artifacts, IDisk disk, Background background, IHostApplicationLifetime lifetime, TimeProvider time, AdjointDpmInstruments instruments, ILocalSiloDetails silo, SiloFolders folders, ILogger<ShardWorkerGrain> logger) =>
        _worker = new ShardWorker(new GrainActivation(this, grains), devices, transfer, artifacts, disk, background, folders, silo.SiloAddress.ToParsableString(), time, instruments, logger, lifetime.ApplicationStopping);

    public Task<WorkStatus> StartAsync(WorkAssignment assignment) => Task.FromResult(_worker.Start(assignment));

    public Task<WorkStatus> WaitAsync(ShardToken token, TimeSpan upTo) => _worker.WaitAsync(token, upTo);

    public Task ForgetAsync(ShardToken token)
    {
        _worker.Forget(token);
        return Task.CompletedTask;
    }

    public Task<WorkerReport> ReportAsync() => Task.FromResult(_worker.Report());

    public override Task OnDeactivateAsync(DeactivationReason reason, CancellationToken cancellationToken)
    {
        _worker.Stop();
        return Task.CompletedTask;
    }
}
