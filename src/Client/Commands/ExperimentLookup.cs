using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Commands;

/// <summary>Finds the experiment that somebody means.</summary>
internal static class ExperimentLookup
{
    private const int Most = 1000;

    /// <summary>By id, else by the beginning of exactly one id.</summary>
    public static async Task<ExperimentSnapshot> FindAsync(IClusterConnection cluster, string text, CancellationToken cancellationToken)
    {
        if (await cluster.GetSnapshotAsync(text, cancellationToken) is { } exact) return exact;
        var all = await cluster.ListAsync(0, Most, cancellationToken);
        var matching = all.Where(experiment => experiment.Id.StartsWith(text, StringComparison.Ordinal)).ToList();
        if (matching.Count == 1 && await cluster.GetSnapshotAsync(matching[0].Id, cancellationToken) is { } found) return found;
        throw matching.Count > 1
            ? new CommandFailure(ExitCodes.Failed, $"'{text}' could be any of {string.Join(", ", matching.Take(5).Select(experiment => experiment.Id))}{(matching.Count > 5 ? ", …" : "")}.", "Write more of the id.")
            : new CommandFailure(ExitCodes.Failed, $"There is no experiment '{text}'.", all.Count == 0 ? "The cluster has none yet." : "List them with 'adpm ls'.");
    }
}
