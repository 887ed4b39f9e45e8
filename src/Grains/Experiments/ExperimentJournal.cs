using System.Text.Json;
using AdjointDpm.Grains.Audit;
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
/// The files are read in the order of activation, and each goes on from where its first line says: what a former activation wrote beyond
/// that, after the later one had read it, is passed over.
/// </remarks>
internal sealed class ExperimentJournal(IDisk disk, string folder, long epoch)
{
    private readonly string _path = Path.Combine(folder, $"events-{epoch:d8}.jsonl");

    /// <summary>Reads what earlier activations wrote.</summary>
    public async Task<List<JournalLine>> ReadAsync()
    {
        var lines = new List<JournalLine>();
        foreach (var path in disk.List(folder).Where(path => Path.GetFileName(path).StartsWith("events-", StringComparison.Ordinal)))
        {
            var begins = true;
            foreach (var text in RunFolder.LinesOf(await disk.ReadAsync(path)))
            {
                if (Parse(text) is not { } line || line.Event.Sequence > lines.Count + 1)
                    continue;
                if (begins)
                    lines.RemoveRange((int)line.Event.Sequence - 1, lines.Count - (int)line.Event.Sequence + 1);
                begins = false;
                if (line.Event.Sequence == lines.Count + 1)
                    lines.Add(line);
            }
        }
        return lines;
    }

    /// <summary>Adds a line. On the disk when <paramref name="durable"/>; the rest may be lost in a power cut, and is then reported again.</summary>
    public void Append(JournalLine line, bool durable) => disk.Append(_path, [.. JsonSerializer.SerializeToUtf8Bytes(line, FileGrainStorage.Json), (byte)'\n'], durable);

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
