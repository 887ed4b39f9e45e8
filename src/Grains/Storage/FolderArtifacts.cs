using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;

namespace AdjointDpm.Grains.Storage;

/// <summary>Results in the data folder.</summary>
internal sealed class FolderArtifacts(SiloFolders folders, IDisk disk) : IArtifacts
{
    public string PlaceOf(string experiment) => folders.Experiment(experiment);

    public string PlaceOf(string experiment, int trial) => folders.TrialArtifacts(experiment, trial);

    public Func<CancellationToken, Task> Write(string place, string run, Action<string> fill)
    {
        if (!Path.IsPathRooted(place))
            throw new ArtifactException($"The results belong to '{place}', but this silo keeps results in its data folder. Give all silos of a cluster the same settings under Artifacts.");
        var finish = ArtifactFolder.Fill(place, run, fill);
        return _ =>
        {
            finish();
            return Task.CompletedTask;
        };
    }

    public Task WriteReportAsync(string experiment, byte[] json) => disk.WriteAsync(Path.Combine(folders.Experiment(experiment), ResultNames.Report), json);

    public Task<byte[]?> ReadReportAsync(string experiment, CancellationToken cancellationToken) => disk.ReadAsync(Path.Combine(folders.Experiment(experiment), ResultNames.Report));

    public Task<IReadOnlyList<ManifestFile>> ManifestAsync(string experiment, int trial, CancellationToken cancellationToken)
    {
        var path = Path.Combine(PlaceOf(experiment, trial), ResultNames.Manifest);
        return Task.FromResult(File.Exists(path) ? ArtifactFolder.ReadManifest(File.ReadAllBytes(path)) : []);
    }

    public Task<Stream?> OpenAsync(string experiment, int trial, ManifestFile file, CancellationToken cancellationToken)
    {
        var folder = PlaceOf(experiment, trial) + Path.DirectorySeparatorChar;
        var path = Path.GetFullPath(Path.Combine(folder, file.Path));
        // Whatever somebody has written into the manifest.
        return Task.FromResult<Stream?>(path.StartsWith(folder, StringComparison.Ordinal) && File.Exists(path) ? new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16, FileOptions.Asynchronous) : null);
    }

    public Task<ILookup<string, string>> FilesAsync(string experiment)
    {
        var root = folders.Experiment(experiment);
        var trials = Directory.Exists(root) ? Directory.EnumerateDirectories(root, "trial-*").Where(ArtifactFolder.IsComplete) : [];
        return Task.FromResult(trials
            .SelectMany(trial => Directory.EnumerateFiles(trial, "*", SearchOption.AllDirectories), (trial, path) => (Trial: Path.GetFileName(trial), Path: Path.GetRelativePath(root, path).Replace('\\', '/')))
            .OrderBy(file => file.Path, StringComparer.Ordinal)
            .ToLookup(file => file.Trial, file => file.Path));
    }
}
