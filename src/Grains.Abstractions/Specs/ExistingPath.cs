using AdjointDpm.Grains.Models;

namespace AdjointDpm.Grains.Specs;

/// <summary>Resolves the paths of a spec.</summary>
internal static class ExistingPath
{
    /// <summary>Makes <paramref name="text"/> absolute; a finding when nothing of that kind is there.</summary>
    public static SpecFinding? Find(ExistingPathKind kind, string path, string text, string folder, out string absolute)
    {
        absolute = text;
        if (text.Contains('\0')) return new SpecFinding(path, $"{path} must not hold a NUL character.") { Found = "a NUL character" };
        absolute = Path.GetFullPath(Path.Combine(folder, text));
        var (noun, exists, other) = kind switch
        {
            ExistingPathKind.Model => ("folder or file", Directory.Exists(absolute) || File.Exists(absolute), ""),
            ExistingPathKind.Folder => ("folder", Directory.Exists(absolute), File.Exists(absolute) ? " It is a file." : ""),
            _ => ("file", File.Exists(absolute), Directory.Exists(absolute) ? " It is a folder." : ""),
        };
        if (exists) return null;
        string? cache = null;
        if (kind == ExistingPathKind.Model && other.Length == 0 && HuggingFaceCache.IsName(text))
        {
            if (HuggingFaceCache.Open().TryFind(text, out var snapshot, out cache))
            {
                absolute = snapshot;
                return null;
            }
        }

        var near = Nearest(kind, absolute, text);
        return new SpecFinding(
            path,
            $"{path}: no such {noun} '{text}'.{other}"
            + (near is not null ? $" Did you mean '{near}'?" : cache is not null ? $" Looked in '{folder}'. {cache}" : other.Length == 0 && !Path.IsPathRooted(text) ? $" Paths are relative to the spec file, here '{folder}'." : ""))
        {
            Found = text, Expected = $"the path of a {noun}", Suggestion = near,
        };
    }

    /// <summary>The same of a path that only silos can look for: a finding when it does not say by itself where it leads.</summary>
    public static SpecFinding? OfSilo(string path, string text) => Path.IsPathFullyQualified(text) && !text.Contains('\0') ? null
        : new SpecFinding(path, $"{path} is '{text}', but paths are those of the silos here: write it as they see it, such as /models/NAME. Where they see this machine's folders say --paths-on-silos false.") { Found = text, Expected = "an absolute path" };

    private static string? Nearest(ExistingPathKind kind, string absolute, string text)
    {
        var parent = Path.GetDirectoryName(absolute);
        if (parent is null || !Directory.Exists(parent)) return null;
        try
        {
            var names = (kind switch { ExistingPathKind.Model => Directory.EnumerateFileSystemEntries(parent), ExistingPathKind.Folder => Directory.EnumerateDirectories(parent), _ => Directory.EnumerateFiles(parent) }).Take(1000).Select(p => Path.GetFileName(p)!);
            var near = Suggestion.Nearest(Path.GetFileName(absolute), names);
            return near is null ? null : Path.Combine(Path.GetDirectoryName(text) ?? "", near);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null; // a folder that cannot be listed gives no suggestion
        }
    }
}
