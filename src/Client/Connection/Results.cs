using System.Security.Cryptography;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Progress;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Connection;

/// <summary>An experiment's results: where they lie when this machine sees that, else fetched from the silos by their SHA-256, into a folder that is gone afterwards.</summary>
/// <param name="context">For the bar.</param>
/// <param name="cluster">Connection.</param>
/// <param name="experiment">Experiment.</param>
internal sealed class Results(ClientContext context, IClusterConnection cluster, ExperimentSnapshot experiment) : IDisposable
{
    private readonly Dictionary<int, IReadOnlyList<ResultFile>> _files = [];
    private string? _fetched;

    private string Id => experiment.Summary.Id;

    /// <summary>Whether they lie in a folder of this machine.</summary>
    public bool IsHere { get; } = !ArtifactList.IsAddress(experiment.ArtifactFolder) && Directory.Exists(experiment.ArtifactFolder);

    /// <summary>The folder, real or fetched.</summary>
    public string Folder => IsHere ? experiment.ArtifactFolder : _fetched ??= Directory.CreateTempSubdirectory("adpm-results-").FullName;

    /// <summary>Path of a file of a trial; null when there is none.</summary>
    public async Task<string?> PathAsync(int trial, string name, CancellationToken cancellationToken)
    {
        var path = Path.Combine(FolderOf(trial), name);
        if (IsHere || File.Exists(path)) return File.Exists(path) ? path : null;
        return (await FilesAsync(trial, cancellationToken)).FirstOrDefault(file => file.Path == name) is { } file ? await FetchAsync(trial, file, null, cancellationToken) : null;
    }

    /// <summary>Fetches those of a trial's files that are wanted, unless they are here.</summary>
    /// <returns>The trial's folder; null when the trial has no results.</returns>
    public async Task<string?> FetchAsync(int trial, Func<ResultFile, bool> wanted, CancellationToken cancellationToken)
    {
        var folder = FolderOf(trial);
        if (IsHere) return File.Exists(Path.Combine(folder, ResultNames.Manifest)) ? folder : null;
        var files = await FilesAsync(trial, cancellationToken);
        if (files.Count == 0) return null;
        var chosen = files.Where(wanted).ToList();
        await using var bar = new WorkBar(context.Terminal, context.Time, "fetching results, MB");
        var (done, total) = (0L, chosen.Sum(file => file.Length));
        foreach (var file in chosen)
        {
            var before = done;
            await FetchAsync(trial, file, read => bar.Report("fetching results, MB", (before + read) / 1e6, total / 1e6), cancellationToken);
            done += file.Length;
        }

        // What programs look for to know that a trial's results are whole: all that was wanted is here.
        await File.WriteAllTextAsync(Path.Combine(folder, ResultNames.Manifest), "{}", cancellationToken);
        return folder;
    }

    /// <summary>Fetches the report, unless it is here.</summary>
    /// <returns>Whether there is one.</returns>
    public async Task<bool> FetchReportAsync(CancellationToken cancellationToken)
    {
        var path = Path.Combine(Folder, ResultNames.Report);
        if (IsHere) return File.Exists(path);
        await using var file = File.Create(path);
        while (await cluster.GetReportAsync(Id, file.Length, cancellationToken) is { } part)
        {
            await file.WriteAsync(part.Bytes, cancellationToken);
            if (file.Length >= part.Length || part.Bytes.Length == 0) return true;
        }

        return false;
    }

    public void Dispose()
    {
        if (_fetched is not null) Directory.Delete(_fetched, recursive: true);
    }

    private string FolderOf(int trial) => Path.Combine(Folder, ResultNames.OfTrial(trial));

    private async Task<IReadOnlyList<ResultFile>> FilesAsync(int trial, CancellationToken cancellationToken) =>
        _files.TryGetValue(trial, out var known) ? known : _files[trial] = await cluster.GetFilesAsync(Id, trial, cancellationToken);

    private async Task<string> FetchAsync(int trial, ResultFile file, Action<long>? read, CancellationToken cancellationToken)
    {
        var folder = FolderOf(trial) + Path.DirectorySeparatorChar;
        var path = Path.GetFullPath(Path.Combine(folder, file.Path));
        // Whatever a cluster says its files are called.
        if (!path.StartsWith(folder, StringComparison.Ordinal)) throw new CommandFailure(ExitCodes.Failed, $"The cluster names a file '{file.Path}', which is no place among results.");
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        await using (var stream = File.Create(path))
        {
            while (stream.Length < file.Length)
            {
                if (await cluster.GetFileAsync(Id, trial, file.Sha256, stream.Length, cancellationToken) is not { Bytes.Length: > 0 } part)
                    throw new CommandFailure(ExitCodes.Failed, $"'{file.Path}' of trial {trial} is gone from the results of '{Id}'.", "Look at the folder or bucket that the silos keep results in.");
                hash.AppendData(part.Bytes);
                await stream.WriteAsync(part.Bytes, cancellationToken);
                read?.Invoke(stream.Length);
            }
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset()) == file.Sha256 ? path
            : throw new CommandFailure(ExitCodes.Failed, $"'{file.Path}' of trial {trial} is not what its manifest says: its SHA-256 is another.", "It was changed after the trial saved it. Restore it from a copy, or run the trial again.");
    }
}
