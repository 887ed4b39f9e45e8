using System.Runtime.InteropServices;
using AdjointDpm.Client.Json;

namespace AdjointDpm.Client.Diagnosis;

/// <summary>What a machine must have before any silo starts.</summary>
internal static class HostChecks
{
    private const long LeastBytes = 1L << 30;

    public static DoctorCheck Runtime() => new(
        "runtime", true,
        $"{RuntimeInformation.FrameworkDescription} on {RuntimeInformation.OSDescription} {RuntimeInformation.OSArchitecture}, {Environment.ProcessorCount} processors, adpm {typeof(HostChecks).Assembly.GetName().Version?.ToString(3)}");

    /// <summary>Tries to write, in the nearest folder that exists; makes nothing that stays.</summary>
    public static DoctorCheck Writable(string name, string folder)
    {
        var existing = Existing(folder);
        var probe = Path.Combine(existing, $".adpm-{Environment.ProcessId}.tmp");
        try
        {
            using (new FileStream(probe, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1, FileOptions.DeleteOnClose))
            {
                return new DoctorCheck(name, true, $"{folder} can be written");
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new DoctorCheck(name, false, $"{folder} cannot be written: {e.Message}", "Name another folder, or change its rights.");
        }
    }

    public static DoctorCheck Disk(string folder)
    {
        try
        {
            var free = new DriveInfo(Existing(folder)).AvailableFreeSpace;
            return new DoctorCheck("disk space", free >= LeastBytes, FormattableString.Invariant($"{free / (double)(1 << 30):0.0} GiB free at {folder}"), "Free some: a run needs at least 1 GiB.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return new DoctorCheck("disk space", false, $"The free space at {folder} is unknown: {e.Message}", "Name another folder with --output.");
        }
    }

    /// <summary>Where the native loader keeps what it had to adapt to this machine: the first of its places that can be written.</summary>
    public static DoctorCheck Cache(Func<string, string?> variable)
    {
        var roots = new[] { variable("XDG_CACHE_HOME"), variable("HOME") is { Length: > 0 } home ? Path.Combine(home, ".cache") : null, Path.GetTempPath() };
        var checks = roots.Where(root => !string.IsNullOrEmpty(root)).Select(root => Writable("cache folder", Path.Combine(root!, "adjointdpm"))).ToList();
        return checks.FirstOrDefault(check => check.Ok) ?? checks[0] with { Advice = "Set XDG_CACHE_HOME to a folder that can be written." };
    }

    private static string Existing(string folder)
    {
        var existing = Path.GetFullPath(folder);
        while (!Directory.Exists(existing) && Path.GetDirectoryName(existing) is { } parent) existing = parent;
        return existing;
    }
}
