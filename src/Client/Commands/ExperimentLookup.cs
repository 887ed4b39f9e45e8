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
        var id = Among([.. all.Select(experiment => experiment.Id)], text, "The cluster has none yet.");
        return await cluster.GetSnapshotAsync(id, cancellationToken) ?? throw None(text, "List them with 'adpm ls'.");
    }

    /// <summary>The id itself, else the only one that begins so.</summary>
    public static string Among(IReadOnlyList<string> ids, string text, string whenEmpty)
    {
        var matching = ids.Contains(text) ? [text] : ids.Where(id => id.StartsWith(text, StringComparison.Ordinal)).ToList();
        return matching.Count switch
        {
            1 => matching[0],
            0 => throw None(text, ids.Count == 0 ? whenEmpty : "List them with 'adpm ls'."),
            _ => throw new CommandFailure(ExitCodes.Failed, $"'{text}' could be any of {string.Join(", ", matching.Take(5))}{(matching.Count > 5 ? ", …" : "")}.", "Write more of the id."),
        };
    }

    private static CommandFailure None(string text, string advice) => new(ExitCodes.Failed, $"There is no experiment '{text}'.", advice);
}
