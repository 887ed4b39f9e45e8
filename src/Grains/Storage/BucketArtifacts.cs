using System.Collections.Immutable;
using System.Runtime.ExceptionServices;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Hosting;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Storage;

/// <summary>Results in a bucket: written to a folder of this machine, sent file by file, the manifest last. Without it, what lies there does not count and is overwritten.</summary>
internal sealed partial class BucketArtifacts(IBucket bucket, BucketOptions options, IDisk disk, TimeProvider time, ILogger<BucketArtifacts> logger) : IArtifacts
{
    /// <summary>Note on a manifest: what the results follow from.</summary>
    public const string RunNote = "run";

    /// <summary>Note on every object: SHA-256 of its bytes.</summary>
    public const string Sha256Note = "sha256";

    public string PlaceOf(string experiment) => $"{bucket.Address}/{KeyOf(experiment)}";

    public string PlaceOf(string experiment, int trial) => $"{PlaceOf(experiment)}/{ResultNames.OfTrial(trial)}";

    public Func<CancellationToken, Task> Write(string place, string run, Action<string> fill)
    {
        if (!place.StartsWith(bucket.Address + "/", StringComparison.Ordinal))
            throw new ArtifactException($"The results belong to '{place}', but this silo keeps results in {bucket.Address}. Give all silos of a cluster the same settings under Artifacts.");
        var staging = Staging.Make(options.StagingFolder, disk);
        try
        {
            fill(staging.Folder);
            return cancellationToken => SendAsync(staging, place[(bucket.Address.Length + 1)..], run, cancellationToken);
        }
        catch
        {
            staging.Dispose();
            throw;
        }
    }

    public Task WriteReportAsync(string experiment, byte[] json) =>
        // Whoever asks, asks again: an experiment does not end before its report is there.
        PutAsync($"{KeyOf(experiment)}/{ResultNames.Report}", BucketContent.Of(json), ImmutableDictionary<string, string>.Empty, TimeSpan.FromSeconds(30), CancellationToken.None);

    public Task<byte[]?> ReadReportAsync(string experiment, CancellationToken cancellationToken) => ReadAsync($"{KeyOf(experiment)}/{ResultNames.Report}", cancellationToken);

    public async Task<IReadOnlyList<ManifestFile>> ManifestAsync(string experiment, int trial, CancellationToken cancellationToken) =>
        await ReadAsync($"{KeyOf(experiment)}/{ResultNames.OfTrial(trial)}/{ResultNames.Manifest}", cancellationToken) is { } bytes ? ArtifactFolder.ReadManifest(bytes) : [];

    private async Task<byte[]?> ReadAsync(string key, CancellationToken cancellationToken)
    {
        await using var stream = await bucket.OpenAsync(key, cancellationToken);
        if (stream is null)
            return null;
        var bytes = new MemoryStream();
        await stream.CopyToAsync(bytes, cancellationToken);
        return bytes.ToArray();
    }

    public Task<Stream?> OpenAsync(string experiment, int trial, ManifestFile file, CancellationToken cancellationToken) =>
        bucket.OpenAsync($"{KeyOf(experiment)}/{ResultNames.OfTrial(trial)}/{file.Path}", cancellationToken);

    public async Task<ILookup<string, string>> FilesAsync(string experiment)
    {
        var start = KeyOf(experiment) + "/";
        var keys = await PatientlyAsync("listing results", TimeSpan.FromSeconds(30), token => bucket.ListAsync(start + "trial-", token), CancellationToken.None);
        var files = keys.Select(key => key[start.Length..]).Where(file => file.Contains('/', StringComparison.Ordinal)).ToLookup(file => file[..file.IndexOf('/', StringComparison.Ordinal)]);
        return files.Where(trial => trial.Contains($"{trial.Key}/{ResultNames.Manifest}")).SelectMany(trial => trial.Order(StringComparer.Ordinal), (trial, file) => (trial.Key, file)).ToLookup(file => file.Key, file => file.file);
    }

    private async Task SendAsync(Staging staging, string start, string run, CancellationToken cancellationToken)
    {
        using (staging)
        {
            var manifest = $"{start}/{ResultNames.Manifest}";
            if (await PatientlyAsync(manifest, options.Patience, token => bucket.NotesAsync(manifest, token), cancellationToken) is { } present)
            {
                // Another attempt was first: equal work gives equal files.
                if (present.GetValueOrDefault(RunNote) == run)
                    return;
                throw new InvalidDataException($"'{bucket.Address}/{start}' holds the results of another run, which are left as they are. Give this cluster a prefix of its own (Artifacts:Prefix), or remove them.");
            }
            var files = ArtifactFolder.WriteManifest(staging.Folder, run);
            foreach (var file in files)
                await PutAsync($"{start}/{file.Path}", ContentOf(file), ImmutableDictionary<string, string>.Empty, options.Patience, cancellationToken);
            var listed = BucketContent.Of(await File.ReadAllBytesAsync(Path.Combine(staging.Folder, ResultNames.Manifest), cancellationToken));
            await PutAsync(manifest, listed, ImmutableDictionary<string, string>.Empty.Add(RunNote, run), options.Patience, cancellationToken);
            LogSent(logger, files.Count + 1, bucket.Address, start);
        }

        BucketContent ContentOf(ManifestFile file) => new(file.Length, file.Sha256, () => new FileStream(Path.Combine(staging.Folder, file.Path), FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16, FileOptions.Asynchronous));
    }

    private Task<bool> PutAsync(string key, BucketContent content, ImmutableDictionary<string, string> notes, TimeSpan patience, CancellationToken cancellationToken) =>
        PatientlyAsync(key, patience, async token =>
        {
            await bucket.PutAsync(key, content, notes.Add(Sha256Note, content.Sha256), token);
            return true;
        }, cancellationToken);

    /// <summary>Does something until it succeeds or the patience is over. Wrong rights are waited for as well: they were right when the silo started, and somebody can put them right again.</summary>
    private async Task<T> PatientlyAsync<T>(string what, TimeSpan patience, Func<CancellationToken, Task<T>> work, CancellationToken cancellationToken)
    {
        var began = time.GetTimestamp();
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                return await work(cancellationToken);
            }
            catch (ArtifactException e)
            {
                var pause = Pause(attempt);
                if (time.GetElapsedTime(began) + pause > patience)
                    ExceptionDispatchInfo.Throw(e);
                LogAgain(logger, what, pause.TotalSeconds, e.Message);
                await Task.Delay(pause, time, cancellationToken);
            }
        }
    }

    /// <summary>Half a second, doubled with every attempt up to 30.</summary>
    public static TimeSpan Pause(int attempt) => TimeSpan.FromSeconds(Math.Min(30, 0.5 * Math.Pow(2, Math.Min(attempt, 6))));

    private static string KeyOf(string experiment) => $"experiments/{SiloFolders.Safe(experiment)}";

    [LoggerMessage(Level = LogLevel.Information, Message = "{Files} files are in {Bucket}/{Start}.")]
    private static partial void LogSent(ILogger logger, int files, string bucket, string start);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{What}: trying again in {Seconds} s: {Reason}")]
    private static partial void LogAgain(ILogger logger, string what, double seconds, string reason);

    /// <summary>A folder of one attempt, with a lock that ends with its process: what a killed one left is removed by the next.</summary>
    private sealed class Staging : IDisposable
    {
        private readonly string _lockFile;
        private readonly IDisposable _lock;

        private Staging(string folder, string lockFile, IDisposable held) => (Folder, _lockFile, _lock) = (folder, lockFile, held);

        public string Folder { get; }

        public static Staging Make(string parent, IDisk disk)
        {
            Directory.CreateDirectory(parent);
            foreach (var left in Directory.GetFiles(parent, "*.lock"))
            {
                if (disk.TryLock(left) is not { } free)
                    continue;
                using (free)
                    Remove(Path.ChangeExtension(left, null), left);
            }
            while (true)
            {
                var folder = Path.Combine(parent, Guid.NewGuid().ToString("N"));
                if (disk.TryLock(folder + ".lock") is not { } held)
                    continue;
                Directory.CreateDirectory(folder);
                return new Staging(folder, folder + ".lock", held);
            }
        }

        public void Dispose()
        {
            Remove(Folder, _lockFile);
            _lock.Dispose();
        }

        private static void Remove(string folder, string lockFile)
        {
            if (Directory.Exists(folder))
                Directory.Delete(folder, recursive: true);
            File.Delete(lockFile);
        }
    }
}

/// <summary>How results go to a bucket.</summary>
/// <param name="StagingFolder">Folder of this machine that they are written to first.</param>
/// <param name="Patience">How long a file is tried for before the attempt to save fails.</param>
public sealed record BucketOptions(string StagingFolder, TimeSpan Patience);
