using System.Text.Json;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Experiments;

/// <summary>One line of the journal: an event for clients, and with a trial's end what the experiment must remember of it.</summary>
internal sealed record JournalLine
{
    public required ExperimentEvent Event { get; init; }

    public TrialSnapshot? Trial { get; init; }

    public TrialTotals? Totals { get; init; }
}

/// <summary>Everything that happened in an experiment, one JSON line per event: the state of an experiment is what its journal says.</summary>
/// <remarks>
/// Every activation writes a file of its own, so that a former one which does not yet know of its end cannot write into the history.
/// The files are read in the order of activation; lines that repeat a sequence number are such leftovers and are passed over.
/// </remarks>
internal sealed class ExperimentJournal(string folder, long epoch) : IDisposable
{
    private FileStream? _file;

    /// <summary>Reads what earlier activations wrote.</summary>
    public async Task<List<JournalLine>> ReadAsync(CancellationToken cancellationToken)
    {
        var lines = new List<JournalLine>();
        if (!Directory.Exists(folder))
            return lines;
        foreach (var path in Directory.GetFiles(folder, "events-*.jsonl").Order(StringComparer.Ordinal))
        {
            await foreach (var text in File.ReadLinesAsync(path, cancellationToken))
            {
                if (Parse(text) is { } line && line.Event.Sequence == lines.Count + 1)
                    lines.Add(line);
            }
        }
        return lines;
    }

    /// <summary>Adds a line. On the disk when <paramref name="durable"/>; the rest may be lost in a power cut, and is then reported again.</summary>
    public void Append(JournalLine line, bool durable)
    {
        if (_file is null)
        {
            Directory.CreateDirectory(folder);
            _file = new FileStream(Path.Combine(folder, $"events-{epoch:d8}.jsonl"), FileMode.Append, FileAccess.Write, FileShare.Read);
        }
        _file.Write([.. JsonSerializer.SerializeToUtf8Bytes(line, FileGrainStorage.Json), (byte)'\n']);
        _file.Flush(flushToDisk: durable);
    }

    public void Dispose() => _file?.Dispose();

    private static JournalLine? Parse(string text)
    {
        try
        {
            return JsonSerializer.Deserialize<JournalLine>(text, FileGrainStorage.Json);
        }
        catch (JsonException)
        {
            // Cut off by a crash: it was told to nobody.
            return null;
        }
    }
}
