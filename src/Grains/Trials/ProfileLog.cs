using System.Text.Json;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Trials;

/// <summary>What was observed of a trial's steps, as it lies in its folder. Who asks again and again has only what is new read.</summary>
/// <param name="disk">Disk of the data folder.</param>
/// <param name="folder">The trial's.</param>
internal sealed class ProfileLog(IDisk disk, string folder)
{
    private readonly SortedDictionary<int, StepProfile> _steps = [];
    private readonly Dictionary<string, long> _read = [];

    /// <summary>Profiles by step; of one that was done again what was observed last.</summary>
    public async Task<IReadOnlyDictionary<int, StepProfile>> ReadAsync()
    {
        foreach (var path in (await disk.ListAsync(Path.Combine(folder, TrialFiles.ProfileFolder))).Order(StringComparer.Ordinal))
        {
            var from = _read.GetValueOrDefault(path);
            var bytes = await disk.ReadFromAsync(path, from);
            // Another reading may have come further meanwhile; and the end of the last line is not there yet, or was cut off by a crash.
            var end = Array.LastIndexOf(bytes, (byte)'\n') + 1;
            if (_read.GetValueOrDefault(path) != from || end == 0)
                continue;
            _read[path] = from + end;
            foreach (var line in RunFolder.LinesOf(bytes.AsSpan(0, end)))
                if (Parse(line) is { } step)
                    _steps[step.Step] = _steps.TryGetValue(step.Step, out var known) ? Merge(known, step) : step;
        }
        return _steps;
    }

    private static StepProfile Merge(StepProfile known, StepProfile step) => step with
    {
        AdjointNorms = step.AdjointNorms ?? known.AdjointNorms,
        Times = step.Times ?? known.Times,
        Shards = step.Shards ?? known.Shards,
        HeldOut = step.HeldOut ?? known.HeldOut,
        PeakBytes = step.PeakBytes ?? known.PeakBytes,
    };

    private static StepProfile? Parse(string line)
    {
        try
        {
            return JsonSerializer.Deserialize<StepProfile>(line, FileGrainStorage.Json);
        }
        catch (JsonException)
        {
            // Half a line of an activation that was killed, before the first of the next.
            return null;
        }
    }
}
