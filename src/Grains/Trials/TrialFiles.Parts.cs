using System.Security.Cryptography;
using System.Text.Json;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Trials;

/// <summary>A version that lies in several files, one for each range of parameters.</summary>
/// <param name="PerParameter">Numbers for each parameter: 1 for the parameters themselves, else the optimiser's. A part holds the first of all its parameters, then the second, and so does the whole.</param>
/// <param name="Parts">Parts in the order of the parameters.</param>
internal sealed record VersionParts(int PerParameter, IReadOnlyList<VersionPart> Parts);

/// <param name="Sha256">SHA-256 of the part, and the name of its file.</param>
/// <param name="Parameters">Number of parameters in it.</param>
internal sealed record VersionPart(string Sha256, int Parameters);

internal sealed partial class TrialFiles
{
    private const int Window = 1 << 22;

    private readonly Dictionary<string, VersionParts> _parts = [];

    /// <summary>What is to be removed as soon as nothing is held.</summary>
    private readonly HashSet<string> _unused = [];

    /// <summary>Versions that are known to lie in one file.</summary>
    private readonly HashSet<string> _single = [];

    /// <summary>Makes a version of parts that are on the disk already: takes the SHA-256 of the whole and writes down what it is made of.</summary>
    public async Task<string> JoinedAsync(VersionParts parts)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        await EachAsync(parts, bytes => hash.AppendData(bytes));
        var sha = Convert.ToHexStringLower(hash.GetHashAndReset());
        await disk.WriteAsync(PartsPath(sha), JsonSerializer.SerializeToUtf8Bytes(parts, FileGrainStorage.Json));
        _parts[sha] = parts;
        return sha;
    }

    /// <summary>What a version is made of; null when it lies in one file, or nowhere.</summary>
    public async Task<VersionParts?> PartsAsync(string sha)
    {
        if (_single.Contains(sha))
            return null;
        if (_parts.TryGetValue(sha, out var known))
            return known;
        return await disk.ReadAsync(PartsPath(sha)) is { } bytes && JsonSerializer.Deserialize<VersionParts>(bytes, FileGrainStorage.Json) is { } parts ? _parts[sha] = parts : null;
    }

    /// <summary>Whether somebody saves the folder, and every version stays until that is done.</summary>
    public bool IsHeld => hold is not null && disk.Exists(hold);

    /// <summary>Removes versions, but none of the files that others are made of as well. While versions are held they stay, and go with the first call after that.</summary>
    /// <remarks>By name and never by what else lies there: a coordinator that does not yet know of its end must not remove what the next one wrote.</remarks>
    public async Task DeleteAsync(IEnumerable<string> unused, IReadOnlyCollection<string> kept)
    {
        _unused.UnionWith(unused);
        if (IsHeld)
            return;
        var needed = new HashSet<string>(kept);
        foreach (var sha in kept)
            needed.UnionWith(await NamesAsync(sha));
        var removed = _unused.Except(kept).ToArray();
        _unused.Clear();
        foreach (var sha in removed)
        {
            foreach (var part in await NamesAsync(sha))
                if (!needed.Contains(part))
                    await disk.DeleteAsync(PathOf(part), Durability.BeforeTheNext);
            if (_parts.Remove(sha))
                await disk.DeleteAsync(PartsPath(sha), Durability.BeforeTheNext);
            else
                await disk.DeleteAsync(PathOf(sha), Durability.BeforeTheNext);
            _single.Remove(sha);
        }
    }

    private async Task<IEnumerable<string>> NamesAsync(string sha) => (await PartsAsync(sha))?.Parts.Select(part => part.Sha256) ?? [];

    private async Task<byte[]> JoinAsync(VersionParts parts)
    {
        var joined = new MemoryStream();
        await EachAsync(parts, bytes => joined.Write(bytes));
        return joined.ToArray();
    }

    /// <summary>Passes over the whole in its order, never holding more than a window of it.</summary>
    private async Task EachAsync(VersionParts parts, Action<byte[]> pass)
    {
        for (var i = 0; i < parts.PerParameter; i++)
            foreach (var part in parts.Parts)
            {
                var length = (long)part.Parameters * sizeof(float);
                for (var at = 0L; at < length; at += Window)
                {
                    var bytes = await disk.ReadAsync(PathOf(part.Sha256), i * length + at, (int)Math.Min(Window, length - at));
                    await background.RunAsync(() =>
                    {
                        pass(bytes);
                        return true;
                    });
                }
            }
    }

    private string PartsPath(string sha) => Path.Combine(folder, sha + ".parts");
}
