using System.Security.Cryptography;

namespace AdjointDpm.Native;

/// <summary>Decides whether TorchSharp's native shim can load beside this host's C++ runtime, and relaxes a private copy of it where it is safe.</summary>
/// <remarks>
/// TorchSharp 0.107.0's shim asks libstdc++ for GLIBCXX_3.4.32 (GCC 13), which Debian 12 and Ubuntu 22.04 lack. The one symbol
/// behind that version is an empty initialisation marker without any relocation, so the requirement may be weak. The package's
/// own file is never changed.
/// </remarks>
internal static class ShimCompatibility
{
    private const string CxxRuntime = "libstdc++.so.6";

    // Referenced by every object that includes <iostream> when compiled by GCC 13 or newer; nothing ever calls it.
    private static readonly HashSet<string> HarmlessSymbols = ["_ZSt21ios_base_library_initv"];

    /// <summary>Versions of libstdc++ that the shim requires and the host's libstdc++ does not define.</summary>
    public static IReadOnlyList<ElfVersionNeed> Missing(ElfImage shim, ElfImage cxxRuntime)
    {
        var defined = cxxRuntime.VersionDefinitions();
        return [.. shim.VersionNeeds().Where(n => n.Library == CxxRuntime && !n.IsWeak && !defined.Contains(n.Version))];
    }

    /// <summary>The shim with the missing requirements weak.</summary>
    /// <exception cref="NativeLoadException">A missing version stands behind symbols that are really used.</exception>
    public static byte[] Relax(byte[] shim, IReadOnlyList<ElfVersionNeed> missing)
    {
        foreach (var need in missing)
        {
            var image = ElfImage.Parse(shim);
            var used = image.SymbolsOfVersion(need.Index).Where(s => !HarmlessSymbols.Contains(s)).ToArray();
            if (used.Length > 0)
            {
                throw new NativeLoadException(
                    $"TorchSharp's native library needs {need.Version} of {CxxRuntime} for {used[0]}{(used.Length > 1 ? $" and {used.Length - 1} more" : "")}, and this host's {CxxRuntime} is older. " +
                    "Install a newer libstdc++ (GCC 13: Debian 13, Ubuntu 24.04) or run the container image.");
            }

            shim = image.WithWeak(need);
        }

        return shim;
    }

    /// <summary>Writes the relaxed shim into the first of the folders that can be written, under a folder named by the original's hash, and returns its path.</summary>
    public static string WriteCopy(byte[] original, byte[] relaxed, string fileName, IEnumerable<string> roots)
    {
        var key = Convert.ToHexStringLower(SHA256.HashData(original))[..16];
        var failures = new List<string>();
        foreach (var root in roots)
        {
            try
            {
                var folder = Path.Combine(root, "adjointdpm", "native", key);
                var path = Path.Combine(folder, fileName);
                if (File.Exists(path) && File.ReadAllBytes(path).AsSpan().SequenceEqual(relaxed))
                    return path;
                Directory.CreateDirectory(folder);
                // Several processes start at once: each writes its own file, the last rename wins with equal bytes.
                var staged = Path.Combine(folder, $".{Environment.ProcessId}.{Guid.NewGuid():n}");
                File.WriteAllBytes(staged, relaxed);
                File.Move(staged, path, overwrite: true);
                return path;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                failures.Add($"{root}: {e.Message}");
            }
        }

        throw new NativeLoadException(
            $"This host's {CxxRuntime} is too old for TorchSharp's native library, and no folder could be written for a private copy of it ({string.Join("; ", failures)}). " +
            "Set XDG_CACHE_HOME to a writable folder.");
    }
}
