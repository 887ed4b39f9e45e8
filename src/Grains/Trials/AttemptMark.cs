using System.Globalization;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Trials;

/// <summary>An attempt that a worker has begun and not ended, as it stands in the name of an empty file in the trial's folder.</summary>
/// <param name="Kind">What is done.</param>
/// <param name="Step">Number of steps committed before.</param>
/// <param name="Shard">Piece of the round.</param>
/// <param name="Epoch">Epoch of the coordinator that leased it.</param>
/// <param name="Attempt">Attempt of that coordinator.</param>
/// <param name="Worker">Who computes it.</param>
/// <param name="Process">Process of that worker.</param>
internal sealed record AttemptMark(WorkKind Kind, int Step, int Shard, long Epoch, int Attempt, string Worker, string Process)
{
    private const string Prefix = "attempt-";

    /// <summary>A file's name has room for 255 characters; of a worker with a longer one, the beginning says enough.</summary>
    private const int LongestWorker = 120;

    /// <summary>End of the names of all marks of a worker.</summary>
    public static string OwnerOf(string worker, string process)
    {
        var name = Uri.EscapeDataString(worker);
        if (name.Length > LongestWorker)
        {
            // Not in the middle of an escaped character.
            var cut = name.LastIndexOf('%', LongestWorker - 1, 2);
            name = name[..(cut > 0 ? cut : LongestWorker)];
        }
        return $"@{name}@{Uri.EscapeDataString(process)}";
    }

    public static string NameOf(in ShardToken token, string owner) =>
        string.Create(CultureInfo.InvariantCulture, $"{Prefix}{token.Kind}-{token.Step}-{token.Shard}-{token.Epoch}-{token.Attempt}{owner}");

    /// <summary>Null for the name of another file.</summary>
    public static AttemptMark? Parse(string name)
    {
        if (!name.StartsWith(Prefix, StringComparison.Ordinal) || name[Prefix.Length..].Split('@') is not [var attempt, var worker, var process])
            return null;
        return attempt.Split('-') is [var kind, var step, var shard, var epoch, var number] && Enum.TryParse<WorkKind>(kind, out var work)
            && Number(step) is { } ofStep && Number(shard) is { } ofShard && Number(epoch) is { } ofEpoch && Number(number) is { } ofAttempt
            ? new AttemptMark(work, (int)ofStep, (int)ofShard, ofEpoch, (int)ofAttempt, Uri.UnescapeDataString(worker), Uri.UnescapeDataString(process))
            : null;

        static long? Number(string text) => long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;
    }

    public bool Is(in ShardToken token) => (Kind, Step, Shard, Epoch, Attempt) == (token.Kind, token.Step, token.Shard, token.Epoch, token.Attempt);
}

/// <summary>What a trial's coordinator knows of attempts that were begun and not ended, by any coordinator of the trial: read when one takes over and when an attempt is lost, cleared by the next commit.</summary>
internal sealed class AttemptMarks(IDisk disk, IWorkerInventory inventory, string folder)
{
    private List<(string Path, AttemptMark Mark)> _known = [];

    public string Folder => folder;

    /// <summary>Looks what there is.</summary>
    public async Task ReadAsync() => 
        _known = [.. from path in await disk.ListAsync(folder) let mark = AttemptMark.Parse(Path.GetFileName(path)) where mark is not null select (path, mark)];

    /// <summary>Whether an attempt had begun, and has not ended.</summary>
    public bool Has(ShardToken token) => _known.Exists(known => known.Mark.Is(token));

    /// <summary>Attempts at a piece of work whose workers' processes have ended in the middle of it.</summary>
    public IEnumerable<AttemptMark> Left(WorkKind kind, int step, int shard) =>
        _known.Select(known => known.Mark).Where(mark => mark.Kind == kind && mark.Step == step && mark.Shard == shard && inventory.HasEnded(mark.Process));

    /// <summary>What is known does not count any more.</summary>
    public void Clear()
    {
        foreach (var (path, _) in _known)
        {
            try
            {
                disk.Unmark(path);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Of a step that is over: it counts for nothing.
            }
        }
        _known.Clear();
    }
}
