using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Grains.Workers;

/// <summary>What one silo knows of the cluster's workers. Key: <c>{silo}/workers</c>.</summary>
[Alias("adjointdpm.ISiloWorkersGrain")]
internal interface ISiloWorkersGrain : IGrainWithStringKey
{
    /// <summary>Told of a change at once; a silo that misses it reads it a second later.</summary>
    [Alias("Learn")]
    Task LearnAsync(CordonedWorkers cordoned);

    static string KeyOf(string silo) => silo + "/workers";
}

[NamedSiloPlacement]
internal sealed class SiloWorkersGrain(WorkerInventory inventory) : Grain, ISiloWorkersGrain
{
    public Task LearnAsync(CordonedWorkers cordoned)
    {
        inventory.Learn(cordoned);
        return Task.CompletedTask;
    }
}
