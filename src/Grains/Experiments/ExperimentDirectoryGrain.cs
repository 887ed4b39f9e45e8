using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Security;

namespace AdjointDpm.Grains.Experiments;

internal sealed class DirectoryState
{
    public Dictionary<string, ExperimentSummary> Experiments { get; set; } = [];
}

/// <summary>Room for experiments by the quotas of their projects. Key: <see cref="IExperimentDirectoryGrain.Key"/>; the directory itself, because it knows all of them.</summary>
[Alias("adjointdpm.IExperimentRoomGrain")]
internal interface IExperimentRoomGrain : IGrainWithStringKey
{
    /// <summary>Lists an experiment that is about to begin, or to use more.</summary>
    /// <exception cref="UnauthorizedAccessException">Its project's quota does not allow that; the message has the figures.</exception>
    [Alias("Reserve")]
    Task ReserveAsync(ExperimentSummary summary);

    /// <summary>Takes back what was reserved for an experiment that did not begin.</summary>
    [Alias("Forget")]
    Task ForgetAsync(string id);
}

[CoordinatorPlacement]
internal sealed class ExperimentDirectoryGrain([PersistentState("directory", StorageNames.State)] IPersistentState<DirectoryState> storage, UsersFile? users = null) : Grain, IExperimentDirectoryGrain, IExperimentRoomGrain
{
    public Task<IReadOnlyList<ExperimentSummary>> ListAsync(int skip, int take, CancellationToken cancellationToken = default) =>
        Task.FromResult<IReadOnlyList<ExperimentSummary>>([.. storage.State.Experiments.Values.Where(summary => Caller.Current?.Sees(summary.Project) ?? true)
            .OrderByDescending(summary => summary.SubmittedAt).ThenBy(summary => summary.Id, StringComparer.Ordinal)
            .Skip(Math.Max(0, skip)).Take(Math.Clamp(take, 0, 1000))]);

    public async Task ReserveAsync(ExperimentSummary summary)
    {
        var quota = users?.QuotaOf(summary.Project!) ?? new ProjectQuota();
        var others = storage.State.Experiments.Values.Where(other => other.Project == summary.Project && other.Id != summary.Id).ToList();
        if (quota.Experiments is { } experiments && others.Count >= experiments)
            throw new UnauthorizedAccessException($"Project {summary.Project} keeps {others.Count} of its {experiments} experiments. Ask an admin for more, or to remove old ones.");
        var running = others.Where(other => !TrialTable.IsEnded(other.State)).Sum(other => (long)(other.Concurrent ?? 1));
        if (quota.RunningTrials is { } trials && running + summary.Concurrent > trials)
            throw new UnauthorizedAccessException($"Project {summary.Project} may run {trials} trials at once; its unfinished experiments take {running}, and this one asks for {summary.Concurrent}. Wait for one to end, or set maxConcurrentTrials lower.");
        if (!storage.State.Experiments.ContainsKey(summary.Id))
            await PutAsync(summary);
    }

    public async Task ForgetAsync(string id)
    {
        if (storage.State.Experiments.Remove(id))
            await storage.WriteStateAsync();
    }

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
