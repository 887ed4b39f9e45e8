namespace AdjointDpm.Grains.Workers;

/// <summary>The devices of a cluster. Key: <see cref="Key"/>.</summary>
[Alias("adjointdpm.IWorkerDirectoryGrain")]
public interface IWorkerDirectoryGrain : IGrainWithStringKey
{
    /// <summary>The only key.</summary>
    const string Key = "all";

    /// <summary>Workers of all active silos, by silo and device.</summary>
    [Alias("List")]
    Task<IReadOnlyList<WorkerSnapshot>> ListAsync(CancellationToken cancellationToken = default);
}

/// <summary>One device of one silo.</summary>
/// <param name="Silo">Silo name.</param>
/// <param name="Device">Device, such as <c>cpu:0</c> or <c>cuda:1</c>.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.WorkerSnapshot")]
public sealed record WorkerSnapshot([property: Id(0)] string Silo, [property: Id(1)] string Device);
