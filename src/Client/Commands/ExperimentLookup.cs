using System.Runtime.CompilerServices;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Commands;

/// <summary>Finds the experiment that somebody means.</summary>
internal static class ExperimentLookup
{
    /// <summary>Experiments that are asked for at once.</summary>
    private const int Page = 1000;

    /// <summary>All experiments, page after page, the newest first. A list that grows while it is read tells none twice.</summary>
    public static async IAsyncEnumerable<ExperimentSummary> AllAsync(IClusterConnection cluster, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var known = new HashSet<string>();
        IReadOnlyList<ExperimentSummary> page;
        for (var read = 0; (page = await cluster.ListAsync(read, Page, cancellationToken)).Count > 0; read += page.Count)
        {
            foreach (var experiment in page.Where(experiment => known.Add(experiment.Id))) yield return experiment;
            if (page.Count < Page) yield break;
        }
    }

    /// <summary>By id, else by its whole name, else by the beginning of exactly one id.</summary>
    public static async Task<ExperimentSnapshot> FindAsync(IClusterConnection cluster, string text, CancellationToken cancellationToken)
    {
        if (await cluster.GetSnapshotAsync(text, cancellationToken) is { } exact) return exact;
        var ids = await AllAsync(cluster, cancellationToken).Select(experiment => experiment.Id).ToListAsync(cancellationToken);
        var id = Among(ids, text, "The cluster has none yet.");
        return await cluster.GetSnapshotAsync(id, cancellationToken) ?? throw None(text, "List them with 'adpm ls'.");
    }

    /// <summary>The id itself, else the only one of that name, else the only one that begins so.</summary>
    public static string Among(IReadOnlyList<string> ids, string text, string whenEmpty)
    {
        List<string> matching = ids.Contains(text) ? [text] : [.. ids.Where(id => NameOf(id) == text)];
        if (matching.Count == 0) matching = [.. ids.Where(id => id.StartsWith(text, StringComparison.Ordinal))];
        return matching.Count switch
        {
            1 => matching[0],
            0 => throw None(text, ids.Count == 0 ? whenEmpty : "List them with 'adpm ls'."),
            _ => throw new CommandFailure(ExitCodes.Failed, $"'{text}' could be any of {string.Join(", ", matching.Take(5))}{(matching.Count > 5 ? ", …" : "")}.", "Write more of the id."),
        };
    }

    /// <summary>An id without the beginning of the spec's hash, which stands behind the name.</summary>
    private static string NameOf(string id) => id.LastIndexOf('-') is > 0 and var dash ? id[..dash] : id;

    private static CommandFailure None(string text, string advice) => new(ExitCodes.Failed, $"There is no experiment '{text}'.", advice);
}
