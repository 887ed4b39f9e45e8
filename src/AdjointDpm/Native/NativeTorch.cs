using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using TorchSharp;

namespace AdjointDpm.Native;

/// <summary>Loads libtorch and TorchSharp's native shim, once per process, before the first tensor.</summary>
/// <remarks>
/// TorchSharp finds its libraries by name in the application's folders. Two hosts need help before that: one with a libstdc++
/// older than the shim was built for (see <see cref="ShimCompatibility"/>), and one where libtorch is installed elsewhere
/// (<c>ADJOINTDPM_LIBTORCH</c>). Both are served by loading the right files first: later look-ups match by soname.
/// Windows and macOS need neither.
/// </remarks>
public static class NativeTorch
{
    /// <summary>Environment variable that names the folder of an installed libtorch (the one holding <c>libtorch_cpu.so</c>).</summary>
    public const string FolderVariable = "ADJOINTDPM_LIBTORCH";

    /// <summary>Environment variable that is 1 where products are to have the same bits wherever their numbers lie in memory: <c>float64</c> needs it (docs/decisions/0006-products-repeat.md).</summary>
    public const string RepeatableVariable = "ADJOINTDPM_REPEATABLE";

    private const string Shim = "libLibTorchSharp.so";
    private static readonly Lock Gate = new();
    private static NativeLoadReport? _report;
    private static Exception? _failure;

    /// <summary>Where the native libraries came from and what was done to load them. Loads them when that has not happened yet.</summary>
    /// <exception cref="NativeLoadException">A library is missing or does not fit; the message says what to do.</exception>
    public static NativeLoadReport EnsureLoaded()
    {
        lock (Gate)
        {
            if (_failure is not null)
                throw new NativeLoadException(_failure.Message, _failure);
            return _report ?? throw new InvalidOperationException("The module initialiser did not run.");
        }
    }

    /// <summary>Runs when this assembly is first used, so that no caller can forget it. A failure is kept for <see cref="EnsureLoaded"/>.</summary>
#pragma warning disable CA2255 // A library may use it when nothing it offers works without: here, before the first tensor.
    [ModuleInitializer]
#pragma warning restore CA2255
    internal static void Initialize()
    {
        lock (Gate)
        {
            if (_report is not null || _failure is not null)
                return;
            try
            {
                _report = OperatingSystem.IsLinux() ? LoadOnLinux() : new NativeLoadReport(null, null, null);
                if (Environment.GetEnvironmentVariable(RepeatableVariable) == "1" && !LibtorchSettings.UseRepeatableProducts())
                    throw new NativeLoadException($"{RepeatableVariable}=1 was asked for, and this libtorch has no MKL that can make products repeat. Take it away: nothing is known to differ in float32.");
                torch.InitializeDeviceType(DeviceType.CPU);
                // It serves some processors only, and on the others every convolution that might use it writes a warning.
                LibtorchSettings.UseNnpack(false);
                _report = _report with { Convolutions = ConvolutionCheck.Ensure() };
            }
            catch (NativeLoadException e)
            {
                _failure = e;
            }
            catch (Exception e) when (e is TypeInitializationException or NotSupportedException or DllNotFoundException or BadImageFormatException or IOException)
            {
                _failure = new NativeLoadException($"libtorch could not be loaded: {Innermost(e).Message.Split('\n')[0]} Install the TorchSharp-cpu package with the program, or set {FolderVariable} to the lib folder of a libtorch 2.10.", e);
            }
        }
    }

    private static NativeLoadReport LoadOnLinux()
    {
        var folders = SearchFolders();
        var shim = Find(folders, Shim)
            ?? throw new NativeLoadException($"{Shim} is not beside the program ({AppContext.BaseDirectory}). Publish the program with its TorchSharp package.");
        var installed = Environment.GetEnvironmentVariable(FolderVariable);
        var packaged = Find(folders, "libtorch_cpu.so");
        string libtorch;
        if (!string.IsNullOrEmpty(installed))
        {
            libtorch = Path.Combine(installed, "libtorch_cpu.so");
            if (!File.Exists(libtorch))
                throw new NativeLoadException($"{FolderVariable} is '{installed}', but there is no libtorch_cpu.so in it. Point it to the lib folder of a libtorch 2.10.");
            if (packaged is not null && Path.GetFullPath(packaged) != Path.GetFullPath(libtorch))
                throw new NativeLoadException($"{FolderVariable} is '{installed}', but this program carries a libtorch of its own ({packaged}), and two in one process corrupt each other. Unset the variable, or build with -p:TorchBackend=none.");
        }
        else
        {
            libtorch = packaged
                ?? throw new NativeLoadException($"No libtorch: libtorch_cpu.so is not beside the program ({AppContext.BaseDirectory}). Build with -p:TorchBackend=cpu, or set {FolderVariable} to the lib folder of a libtorch 2.10.");
        }

        var (path, note) = FittingShim(shim);
        if (path == shim && string.IsNullOrEmpty(installed))
            return new NativeLoadReport(Path.GetDirectoryName(libtorch), shim, null);

        // Dependencies first: a shim outside their folder finds them only by soname.
        foreach (var library in (string[])["libtorch_cpu.so", "libtorch_cuda.so", "libtorch.so"])
        {
            var file = Path.Combine(Path.GetDirectoryName(libtorch)!, library);
            if (File.Exists(file))
                LoadFile(file);
        }

        LoadFile(path);
        return new NativeLoadReport(Path.GetDirectoryName(libtorch), path, note);
    }

    private static (string Path, string? Note) FittingShim(string shim)
    {
        if (!NativeLibrary.TryLoad("libstdc++.so.6", out _) || LoadedPath("libstdc++.so") is not { } cxxRuntime)
            return (shim, null);
        try
        {
            var original = File.ReadAllBytes(shim);
            var missing = ShimCompatibility.Missing(ElfImage.Parse(original), ElfImage.Parse(File.ReadAllBytes(cxxRuntime)));
            if (missing.Count == 0)
                return (shim, null);
            var copy = ShimCompatibility.WriteCopy(original, ShimCompatibility.Relax(original, missing), Shim, CacheRoots());
            return (copy, $"{cxxRuntime} lacks {string.Join(", ", missing.Select(m => m.Version))}, which TorchSharp's native library asks for but does not use: loaded a private copy without that requirement, {copy}");
        }
        catch (BadImageFormatException e)
        {
            // Nothing was learned about the file; the ordinary loader has the last word.
            return (shim, $"{shim} could not be examined ({e.Message})");
        }
    }

    private static void LoadFile(string file)
    {
        try
        {
            NativeLibrary.Load(file);
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            throw new NativeLoadException($"{file} does not load: {Innermost(e).Message.Split('\n')[0].Trim()}. The shim of TorchSharp 0.107 fits libtorch 2.10 only.", e);
        }
    }

    /// <summary>File of a library that this process has loaded, by the beginning of its name; null when it has not.</summary>
    internal static string? LoadedPath(string library) => File.ReadLines("/proc/self/maps")
        .Select(line => line.IndexOf('/', StringComparison.Ordinal) is var i and >= 0 ? line[i..] : "")
        .FirstOrDefault(path => Path.GetFileName(path).StartsWith(library, StringComparison.Ordinal));

    private static string? Find(IEnumerable<string> folders, string file) =>
        folders.Select(folder => Path.Combine(folder, file)).FirstOrDefault(File.Exists);

    private static List<string> SearchFolders()
    {
        var rid = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? "linux-arm64" : "linux-x64";
        var known = (AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") as string ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries);
        return [AppContext.BaseDirectory, Path.Combine(AppContext.BaseDirectory, "runtimes", rid, "native"), .. known];
    }

    private static IEnumerable<string> CacheRoots()
    {
        if (Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } cache)
            yield return cache;
        if (Environment.GetEnvironmentVariable("HOME") is { Length: > 0 } home)
            yield return Path.Combine(home, ".cache");
        yield return Path.GetTempPath();
    }

    private static Exception Innermost(Exception e)
    {
        while (e.InnerException is { } inner)
            e = inner;
        return e;
    }
}

/// <summary>What was loaded, and how.</summary>
/// <param name="Folder">Folder of libtorch, where it is known.</param>
/// <param name="Shim">File of TorchSharp's native shim that was used, where it is known.</param>
/// <param name="Note">One line for the log when something other than the packaged files was loaded; else null.</param>
public sealed record NativeLoadReport(string? Folder, string? Shim, string? Note)
{
    /// <summary>One line for the log when oneDNN's convolutions are wrong on this machine and libtorch's own are used; else null.</summary>
    public string? Convolutions { get; init; }

    /// <summary>All that a log should say, a line each.</summary>
    public IEnumerable<string> Notes => new[] { Note, Convolutions }.OfType<string>();
}
