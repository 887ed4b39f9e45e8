using System.Globalization;
using System.Text.Json;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Experiments;

/// <summary>One line of the journal: an event for clients, and with a trial's end what the experiment must remember of it.</summary>
internal sealed record JournalLine
{
    public required ExperimentEvent Event { get; init; }

    public TrialSnapshot? Trial { get; init; }

    public TrialTotals? Totals { get; init; }

    /// <summary>With a trial's start: the values that a search chose which learns from results.</summary>
    public IReadOnlyDictionary<string, string>? Values { get; init; }

    /// <summary>With a trial's start: the trial whose trained parameters it begins with.</summary>
    public int? Origin { get; init; }

    /// <summary>With an edit: canonical JSON of the spec from then on.</summary>
    public string? SpecJson { get; init; }

    /// <summary>On the first line of an activation: the activation that wrote the line before.</summary>
    public long? PreviousEpoch { get; init; }
}

/// <summary>Everything that happened in an experiment, one JSON line per event: the state of an experiment is what its journal says.</summary>
/// <remarks>
/// Every activation writes a file of its own, and its first line names the activation that wrote the line before. Read backwards from the
/// newest activation that gives one history; what a former activation wrote that nobody built on, because it did not yet know of its end,
/// is no part of it.
/// </remarks>
internal sealed class ExperimentJournal(IDisk disk, string folder, long epoch)
{
    private long? _previous;

    /// <summary>Reads what earlier activations wrote, and adds to it from then on.</summary>
    public async Task<List<JournalLine>> ReadAsync()
    {
        (var history, _previous) = await HistoryAsync();
        return history;
    }

    /// <summary>Reads what is there as this activation knows it: its own lines, and those that it built on.</summary>
    /// <returns>The lines, and the activation that wrote the last of them.</returns>
    public async Task<(List<JournalLine> Lines, long? Newest)> HistoryAsync()
    {
        var files = new SortedDictionary<long, List<JournalLine>>();
        foreach (var path in await disk.ListAsync(folder))
        {
            if (EpochOf(path) is not { } writer || writer > epoch)
                continue;
            var lines = new List<JournalLine>();
            foreach (var text in RunFolder.LinesOf(await disk.ReadAsync(path)))
                if (Parse(text) is { } line && (lines.Count == 0 || line.Event.Sequence == lines[^1].Event.Sequence + 1))
                    lines.Add(line);
            if (lines.Count > 0)
                files[writer] = lines;
        }
        var history = new Stack<JournalLine>();
        long? newest = files.Count == 0 ? null : files.Keys.Last();
        var (at, until) = (newest, long.MaxValue);
        while (at is { } writer && files.TryGetValue(writer, out var lines))
        {
            foreach (var line in lines.Where(line => line.Event.Sequence <= until).Reverse())
                history.Push(line);
            (at, until) = (lines[0].PreviousEpoch, lines[0].Event.Sequence - 1);
        }
        return ([.. history], newest);
    }

    /// <summary>Adds a line, in the order of the calls. Ends when it is on the disk if it is <paramref name="durable"/>, else when it is seen; that may be lost in a power cut, and is then reported again.</summary>
    public Task AppendAsync(JournalLine line, bool durable)
    {
        var written = disk.AppendAsync(
            Path.Combine(folder, $"events-{epoch:d8}.jsonl"),
            (byte[])[.. JsonSerializer.SerializeToUtf8Bytes(_previous == epoch ? line : line with { PreviousEpoch = _previous }, FileGrainStorage.Json), (byte)'\n'],
            durable ? Durability.Now : Durability.Seen);
        _previous = epoch;
        return written;
    }

    private static long? EpochOf(string path) =>
        Path.GetFileNameWithoutExtension(path) is var name && name.StartsWith("events-", StringComparison.Ordinal) && long.TryParse(name["events-".Length..], NumberStyles.None, CultureInfo.InvariantCulture, out var epoch) ? epoch : null;

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
