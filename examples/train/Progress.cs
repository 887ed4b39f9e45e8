using System.Diagnostics;
using System.Globalization;

namespace AdjointDpm.Train;

/// <summary>Lines of progress on standard error, and the curve as CSV.</summary>
internal sealed class Progress(string csv, string header, int total)
{
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private (int Iteration, TimeSpan At)? _first;

    public double Minutes => _clock.Elapsed.TotalMinutes;

    public void Report(int iteration, params (string Name, double Value)[] values)
    {
        _first ??= (iteration, _clock.Elapsed);
        var (first, since) = _first.Value;
        var pace = iteration > first ? (_clock.Elapsed - since) / (iteration - first) : TimeSpan.Zero;
        var left = pace * (total - iteration);
        Console.Error.WriteLine($"{iteration,6}/{total}  {string.Join("  ", values.Select(v => $"{v.Name} {v.Value.ToString("g5", CultureInfo.InvariantCulture)}"))}  {pace.TotalMilliseconds:f0} ms  ETA {left:hh\\:mm\\:ss}");
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(csv))!);
        if (!File.Exists(csv))
            File.WriteAllText(csv, header + "\n");
        File.AppendAllText(csv, $"{iteration},{string.Join(',', values.Select(v => v.Value.ToString("g6", CultureInfo.InvariantCulture)))}\n");
    }
}
