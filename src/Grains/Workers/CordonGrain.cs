using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Grains.Workers;

/// <summary>The workers that get no new work.</summary>
/// <param name="Version">Grows with every change, so that what was read before a change does not take it back.</param>
/// <param name="Workers">Names, sorted.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.CordonedWorkers")]
internal sealed record CordonedWorkers([property: Id(0)] long Version, [property: Id(1)] IReadOnlyList<string> Workers);

/// <summary>Keeps which workers are cordoned. Key: <see cref="Key"/>. All methods may be called again.</summary>
[Alias("adjointdpm.ICordonGrain")]
internal interface ICordonGrain : IGrainWithStringKey
{
    /// <summary>The only key.</summary>
    const string Key = "all";

    [Alias("Get")]
    Task<CordonedWorkers> GetAsync();

    /// <summary>Stores the change before it returns.</summary>
    [Alias("Change")]
    Task<CordonedWorkers> ChangeAsync(IReadOnlyList<string> workers, bool cordoned);
}

/// <summary>As it is stored: no longer than the list of the workers that are cordoned now.</summary>
internal sealed class CordonState
{
    public long Version { get; set; }

    public List<string> Workers { get; set; } = [];
}

[CoordinatorPlacement]
internal sealed class CordonGrain([PersistentState("cordon", StorageNames.State)] IPersistentState<CordonState> storage) : Grain, ICordonGrain
{
    public Task<CordonedWorkers> GetAsync() => Task.FromResult(Known());

    public async Task<CordonedWorkers> ChangeAsync(IReadOnlyList<string> workers, bool cordoned)
    {
        var before = storage.State;
        var after = (cordoned ? before.Workers.Union(workers) : before.Workers.Except(workers)).Order(StringComparer.Ordinal).ToList();
        if (after.SequenceEqual(before.Workers))
            return Known();
        storage.State = new CordonState { Version = before.Version + 1, Workers = after };
        try
        {
            await storage.WriteStateAsync();
        }
        catch
        {
            // Whether it was written is not known: the next activation reads it.
            storage.State = before;
            DeactivateOnIdle();
            throw;
        }
        return Known();
    }

    private CordonedWorkers Known() => new(storage.State.Version, storage.State.Workers.ToArray());
}
