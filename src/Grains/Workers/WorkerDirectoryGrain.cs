using Orleans.Concurrency;

namespace AdjointDpm.Grains.Workers;

/// <summary>Answers from the view of whichever silo is asked: no state, no single place.</summary>
[StatelessWorker]
internal sealed class WorkerDirectoryGrain(WorkerInventory inventory) : Grain, IWorkerDirectoryGrain
{
    public Task<IReadOnlyList<WorkerSnapshot>> ListAsync(CancellationToken cancellationToken = default) =>
        Task.FromResult<IReadOnlyList<WorkerSnapshot>>([.. inventory.All().Order(StringComparer.Ordinal)
            .Select(worker => new WorkerSnapshot(worker[..worker.LastIndexOf('/')], WorkerInventory.DeviceOf(worker)))]);
}
