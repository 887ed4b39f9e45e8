using System.Globalization;

namespace AdjointDpm.Grains.Telemetry;

/// <summary>Memory of the machine, or of the container where that has a limit of its own.</summary>
internal readonly record struct MemoryReading(long Used, long Total)
{
    private const string Group = "/sys/fs/cgroup";

    /// <summary>Null on a system that does not tell.</summary>
    public static MemoryReading? Read() => Read("/proc/meminfo", Group);

    /// <param name="meminfo">File with the machine's memory.</param>
    /// <param name="group">Folder of the process' control group, version 2.</param>
    internal static MemoryReading? Read(string meminfo, string group)
    {
        try
        {
            var (total, available) = (0L, 0L);
            foreach (var line in File.ReadLines(meminfo))
                if (line.StartsWith("MemTotal:", StringComparison.Ordinal))
                    total = Kilobytes(line);
                else if (line.StartsWith("MemAvailable:", StringComparison.Ordinal))
                    available = Kilobytes(line);
            // A limit above what the machine has is none.
            if (long.TryParse(Text(group, "memory.max"), CultureInfo.InvariantCulture, out var limit) && limit < total && long.TryParse(Text(group, "memory.current"), CultureInfo.InvariantCulture, out var current))
                return new(Math.Max(0, current - FileCache(group)), limit);
            return total > 0 ? new(total - available, total) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            return null;
        }
    }

    private static long Kilobytes(string line) => long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;

    private static string Text(string group, string file) => Path.Combine(group, file) is var path && File.Exists(path) ? File.ReadAllText(path).Trim() : "";

    /// <summary>Files that the kernel keeps as long as nobody wants the room: not what a container is killed for.</summary>
    private static long FileCache(string group) =>
        Text(group, "memory.stat").Split('\n').FirstOrDefault(line => line.StartsWith("inactive_file ", StringComparison.Ordinal)) is { } line ? long.Parse(line.Split(' ')[1], CultureInfo.InvariantCulture) : 0;
}
