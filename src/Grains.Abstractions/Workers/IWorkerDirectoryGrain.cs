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

    /// <summary>The same with what each of them does, and cordoned ones whose silo is away. A worker that does not answer within seconds is said to be silent.</summary>
    [Alias("Describe")]
    Task<IReadOnlyList<WorkerDescription>> DescribeAsync(CancellationToken cancellationToken = default);

    /// <summary>The newest messages of the silos' logs, silo by silo; a silo that does not answer within seconds is left out.</summary>
    /// <param name="after">Number of the newest message that is known of a silo; of others all that it still has.</param>
    /// <param name="most">At most this many of each silo.</param>
    /// <param name="cancellationToken">Ends the waiting.</param>
    [Alias("GetLogs")]
    Task<IReadOnlyList<SiloMessage>> GetLogsAsync(IReadOnlyDictionary<string, long> after, int most, CancellationToken cancellationToken = default);

    /// <summary>Cordons workers (no new shard goes to them; those that they hold end) or lifts that. Stored, and told to every silo that answers, when this returns.</summary>
    /// <param name="workers">Names, <c>{silo}/{device}</c>.</param>
    /// <param name="cordoned">Whether they are to be.</param>
    /// <param name="cancellationToken">Ends the waiting.</param>
    /// <returns>Names that no worker has. When there are any, nothing was changed.</returns>
    [Alias("Cordon")]
    Task<IReadOnlyList<string>> CordonAsync(IReadOnlyList<string> workers, bool cordoned, CancellationToken cancellationToken = default);
}

/// <summary>One device of one silo.</summary>
/// <param name="Silo">Silo name.</param>
/// <param name="Device">Device, such as <c>cpu:0</c> or <c>cuda:1</c>.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.WorkerSnapshot")]
public sealed record WorkerSnapshot([property: Id(0)] string Silo, [property: Id(1)] string Device);
