using System.Security.Cryptography;
using System.Text.Json;

namespace AdjointDpm.Grains.Storage;

/// <summary>Folders of results that are complete or absent: filled beside their place, listed in a manifest written last, then renamed.</summary>
internal static class ArtifactFolder
{
    public const string Manifest = "manifest.json";

    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { WriteIndented = true };

    public static bool IsComplete(string folder) => File.Exists(Path.Combine(folder, Manifest));

    /// <summary>Fills and places a folder. When another attempt was first, its folder stays: equal work gives equal files.</summary>
    public static void Write(string folder, Action<string> fill) => Fill(folder, fill)();

    /// <summary>Fills a folder beside its place.</summary>
    /// <returns>What brings it to the disk and to its place; must be called, and waits for the disk.</returns>
    public static Action Fill(string folder, Action<string> fill)
    {
        if (IsComplete(folder))
            return () => { };
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
        return () => Place(folder, staging);
    }

    private static void Place(string folder, string staging)
    {
        try
        {
            WriteManifest(staging);
            if (Directory.Exists(folder) && !IsComplete(folder))
                Directory.Delete(folder, recursive: true);
            try
            {
                Directory.Move(staging, folder);
            }
            catch (IOException) when (IsComplete(folder))
            {
                // Another attempt has put the same files there in between.
            }
        }
        finally
        {
            if (Directory.Exists(staging))
                Directory.Delete(staging, recursive: true);
        }
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
    public static IReadOnlyList<ManifestFile> WriteManifest(string folder)
    {
        var files = new List<ManifestFile>();
        foreach (var path in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.ReadWrite, FileShare.Read);
            files.Add(new ManifestFile(Path.GetRelativePath(folder, path).Replace('\\', '/'), file.Length, Convert.ToHexStringLower(SHA256.HashData(file))));
            file.Flush(flushToDisk: true);
        }
        using var manifest = new FileStream(Path.Combine(folder, Manifest), FileMode.CreateNew);
        JsonSerializer.Serialize(manifest, new ManifestDocument(1, files), Json);
        manifest.Flush(flushToDisk: true);
        return files;
    }
}

internal sealed record ManifestDocument(int Schema, IReadOnlyList<ManifestFile>? Files);

/// <param name="Path">Relative to the manifest's folder, with slashes.</param>
/// <param name="Length">Number of bytes.</param>
/// <param name="Sha256">SHA-256 in hexadecimal.</param>
internal sealed record ManifestFile(string Path, long Length, string Sha256);
