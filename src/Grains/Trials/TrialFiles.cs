using System.Runtime.InteropServices;
using System.Text.Json;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Trials;

/// <summary>Files that only a trial's coordinator writes: versions of parameters and optimiser state by content, and one line per step.</summary>
/// <remarks>Everything is on the disk before the state that names it is committed, and removed only after a commit that does not.</remarks>
internal sealed class TrialFiles(string folder)
{
    /// <summary>One JSON line per step. Holds only what is a function of the spec: an interrupted run gives the same file.</summary>
    public string MetricsFile { get; } = Path.Combine(folder, "metrics.jsonl");

    public async Task<string> WriteAsync(ReadOnlyMemory<byte> bytes)
    {
        var sha = await Task.Run(() => TensorReference.HashOf(bytes.Span));
        if (!File.Exists(PathOf(sha)))
            await AtomicFile.WriteAsync(PathOf(sha), bytes);
        return sha;
    }

    /// <exception cref="InvalidDataException">The file is missing or was changed.</exception>
    public async Task<byte[]> ReadAsync(string sha)
    {
        if (!File.Exists(PathOf(sha)))
            throw new InvalidDataException($"'{PathOf(sha)}' is missing, so the trial cannot go on from its last step. Restore the data folder or submit the experiment anew.");
        var bytes = await File.ReadAllBytesAsync(PathOf(sha));
        var found = await Task.Run(() => TensorReference.HashOf(bytes));
        return found == sha ? bytes : throw new InvalidDataException($"'{PathOf(sha)}' was changed: its SHA-256 is {found}. Restore the data folder or submit the experiment anew.");
    }

    public void Delete(string sha) => File.Delete(PathOf(sha));

    /// <summary>Adds the line of a step. Lines from a step that was begun and not committed are replaced.</summary>
    public async Task AppendAsync(StepRecord record)
    {
        Directory.CreateDirectory(folder);
        await using var file = new FileStream(MetricsFile, FileMode.Append, FileAccess.Write, FileShare.Read);
        JsonSerializer.Serialize(file, record, FileGrainStorage.Json);
        file.WriteByte((byte)'\n');
        file.Flush(flushToDisk: true);
    }

    /// <summary>The committed steps; the file is cut to them.</summary>
    public async Task<List<StepRecord>> RecoverAsync(int committed)
    {
        var records = ReadMetrics(MetricsFile).Where(record => record.Step <= committed).DistinctBy(record => record.Step).OrderBy(record => record.Step).ToList();
        if (records.Count != committed)
            throw new InvalidDataException($"'{MetricsFile}' has {records.Count} of {committed} steps. Restore the data folder or submit the experiment anew.");
        var lines = new MemoryStream();
        foreach (var record in records)
        {
            JsonSerializer.Serialize(lines, record, FileGrainStorage.Json);
            lines.WriteByte((byte)'\n');
        }
        await AtomicFile.WriteAsync(MetricsFile, lines.GetBuffer().AsMemory(0, (int)lines.Length));
        return records;
    }

    public static IEnumerable<StepRecord> ReadMetrics(string path)
    {
        if (!File.Exists(path))
            yield break;
        foreach (var line in File.ReadLines(path))
        {
            StepRecord? record;
            try
            {
                record = JsonSerializer.Deserialize<StepRecord>(line, FileGrainStorage.Json);
            }
            catch (JsonException)
            {
                // The line that a crash cut off; its step was not committed.
                continue;
            }
            if (record is not null)
                yield return record;
        }
    }

    public static float[] Floats(ReadOnlySpan<byte> bytes) => MemoryMarshal.Cast<byte, float>(bytes).ToArray();

    public static byte[] Bytes(ReadOnlySpan<float> numbers) => MemoryMarshal.AsBytes(numbers).ToArray();

    private string PathOf(string sha) => Path.Combine(folder, sha + ".bin");
}
