using System.Security.Cryptography;
using System.Text.Json;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Grains.Storage;

/// <summary>Folders of results that are complete or absent: filled beside their place, listed in a manifest written last, then renamed.</summary>
internal static class ArtifactFolder
{
    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    public static bool IsComplete(string folder) => File.Exists(Path.Combine(folder, ResultNames.Manifest));

    /// <summary>Fills and places a folder. When another attempt was first, its folder stays: equal work gives equal files.</summary>
    public static void Write(string folder, string run, Action<string> fill) => Fill(folder, run, fill)();

    /// <summary>Fills a folder beside its place.</summary>
    /// <param name="folder">Its place.</param>
    /// <param name="run">What the files follow from; stands in the manifest.</param>
    /// <param name="fill">Writes the files into a folder that is empty; not called when they are there.</param>
    /// <returns>What brings it to the disk and to its place; must be called, and waits for the disk.</returns>
    /// <exception cref="InvalidDataException">The results of another run are there.</exception>
    public static Action Fill(string folder, string run, Action<string> fill)
    {
        if (IsComplete(folder))
        {
            RequireSame(folder, run);
            return () => { };
        }
        var parent = Path.GetDirectoryName(folder)!;
        var staging = Path.Combine(parent, $".{Path.GetFileName(folder)}.{Guid.NewGuid():N}");
        Directory.CreateDirectory(staging);
        try
        {
            fill(staging);
        }
        catch
        {
            Directory.Delete(staging, recursive: true);
            throw;
        }
        return () => Place(folder, run, staging);
    }

    private static void Place(string folder, string run, string staging)
    {
        try
        {
            WriteManifest(staging, run);
            // The names as well: of the files before the folder has its own, and that before anyone is told.
            foreach (var inside in Directory.EnumerateDirectories(staging, "*", SearchOption.AllDirectories).Append(staging))
                LocalDisk.SyncFolder(inside);
            if (Directory.Exists(folder) && !IsComplete(folder))
                Directory.Delete(folder, recursive: true);
            try
            {
                Directory.Move(staging, folder);
            }
            catch (IOException) when (IsComplete(folder))
            {
                // Another attempt has put the same files there in between.
                RequireSame(folder, run);
            }
            var parent = Path.GetDirectoryName(folder)!;
            LocalDisk.SyncFolder(parent);
            // The first trial has made it.
            LocalDisk.SyncFolder(Path.GetDirectoryName(parent)!);
        }
        finally
        {
            if (Directory.Exists(staging))
                Directory.Delete(staging, recursive: true);
        }
    }

    /// <summary>Results of another run under the same name are left alone. Those of before runs stood in manifests are taken for the same.</summary>
    private static void RequireSame(string folder, string run)
    {
        using var manifest = File.OpenRead(Path.Combine(folder, ResultNames.Manifest));
        if (JsonSerializer.Deserialize<ManifestDocument>(manifest, Json)?.Run is { } present && present != run)
            throw new InvalidDataException($"'{folder}' holds the results of another run, which are left as they are. Move or remove them, or submit the experiment under another name.");
    }

    /// <summary>What a manifest lists; nothing when it is none.</summary>
    public static IReadOnlyList<ManifestFile> ReadManifest(ReadOnlySpan<byte> json)
    {
        try
        {
            return JsonSerializer.Deserialize<ManifestDocument>(json, Json)?.Files ?? [];
        }
        catch (JsonException)
        {
            return [];
        }
    }

    /// <summary>Lists the files of a folder in a manifest there, all flushed to the disk.</summary>
    /// <param name="folder">Folder.</param>
    /// <param name="run">What the files follow from.</param>
    public static IReadOnlyList<ManifestFile> WriteManifest(string folder, string run)
    {
        var files = new List<ManifestFile>();
        foreach (var path in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.Read);
            files.Add(new ManifestFile(Path.GetRelativePath(folder, path).Replace('\\', '/'), file.Length, Convert.ToHexStringLower(SHA256.HashData(file))));
            file.Flush(flushToDisk: true);
        }
        using var manifest = new FileStream(Path.Combine(folder, ResultNames.Manifest), FileMode.CreateNew);
        JsonSerializer.Serialize(manifest, new ManifestDocument(1, files, run), Json);
        manifest.Flush(flushToDisk: true);
        return files;
    }
}

/// <param name="Schema">Layout.</param>
/// <param name="Files">All files but the manifest itself.</param>
/// <param name="Run">SHA-256 of the spec and of the parameters that the files follow from; null in manifests of before it was written.</param>
internal sealed record ManifestDocument(int Schema, IReadOnlyList<ManifestFile>? Files, string? Run = null);

/// <param name="Path">Relative to the manifest's folder, with slashes.</param>
/// <param name="Length">Number of bytes.</param>
/// <param name="Sha256">SHA-256 in hexadecimal.</param>
internal sealed record ManifestFile(string Path, long Length, string Sha256);
