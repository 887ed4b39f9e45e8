using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Grains.Experiments;

internal sealed class DirectoryState
{
    public Dictionary<string, ExperimentSummary> Experiments { get; set; } = [];
}

[CoordinatorPlacement]
internal sealed class ExperimentDirectoryGrain([PersistentState("directory", StorageNames.State)] IPersistentState<DirectoryState> storage) : Grain, IExperimentDirectoryGrain
{
    public Task<IReadOnlyList<ExperimentSummary>> ListAsync(int skip, int take, CancellationToken cancellationToken = default) =>
        Task.FromResult<IReadOnlyList<ExperimentSummary>>([.. storage.State.Experiments.Values
            .OrderByDescending(summary => summary.SubmittedAt).ThenBy(summary => summary.Id, StringComparer.Ordinal)
            .Skip(Math.Max(0, skip)).Take(Math.Clamp(take, 0, 1000))]);

    public async Task PutAsync(ExperimentSummary summary)
    {
        if (storage.State.Experiments.TryGetValue(summary.Id, out var known) && known == summary)
            return;
        storage.State.Experiments[summary.Id] = summary;
        try
        {
            await storage.WriteStateAsync();
        }
        catch (Orleans.Storage.InconsistentStateException)
        {
            DeactivateOnIdle();
            throw;
        }
    }
}
