using System.Globalization;
using System.Runtime.InteropServices;
using AdjointDpm.Grains.Telemetry;

namespace AdjointDpm.Grains.Workers;

/// <summary>What a device is, for people: bits are equal on equal kinds only.</summary>
internal static class Hardware
{
    private static readonly Lazy<string> Cpu = new(() => string.Create(CultureInfo.InvariantCulture, $"{Model(ReadLines("/proc/cpuinfo"))}, {Environment.ProcessorCount} threads"));

    /// <summary>Processor or GPU of a device, such as cpu:0.</summary>
    public static string Of(string device) => GpuOf(device) is { } index ? Nvml.NameOf(index) ?? "an NVIDIA GPU" : Cpu.Value;

    /// <summary>Nine tenths of a device's memory in bytes, of the processor's what this process may have; 0 when nobody tells.</summary>
    public static long MemoryOf(string device) => (GpuOf(device) is { } index ? Nvml.MemoryOf(index) ?? 0 : GC.GetGCMemoryInfo().TotalAvailableMemoryBytes) / 10 * 9;

    private static int? GpuOf(string device) => device.StartsWith("cuda:", StringComparison.Ordinal) && int.TryParse(device.AsSpan("cuda:".Length), NumberStyles.None, CultureInfo.InvariantCulture, out var index) ? index : null;

    /// <summary>The model in lines as /proc/cpuinfo has them; of a kind that does not say it, its architecture.</summary>
    public static string Model(IEnumerable<string> lines) =>
        lines.Where(line => line.StartsWith("model name", StringComparison.Ordinal) && line.Contains(':', StringComparison.Ordinal)).Select(line => line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim()).FirstOrDefault(name => name.Length > 0)
        ?? RuntimeInformation.ProcessArchitecture.ToString();

    private static string[] ReadLines(string path)
    {
        try
        {
            return File.Exists(path) ? File.ReadAllLines(path) : [];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }
}
