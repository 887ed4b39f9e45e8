using System.Globalization;
using System.Text;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Trials;

/// <summary>An attempt that a worker has begun and not ended, as it stands on the worker's slate.</summary>
/// <param name="Token">Attempt.</param>
/// <param name="Worker">Who computes it.</param>
/// <param name="Process">Process of that worker.</param>
internal sealed record AttemptMark(ShardToken Token, string Worker, string Process)
{
    /// <summary>Length of what stands on a slate; an experiment's id has 128 characters at most.</summary>
    public const int LineLength = 256;

    /// <summary>A file's name has room for 255 characters; of a worker with a longer one the beginning says enough.</summary>
    private const int LongestWorker = 120;

    /// <summary>Name of the slate of a worker in a process.</summary>
    public static string SlateOf(string worker, string process)
    {
        var name = Uri.EscapeDataString(worker);
        if (name.Length > LongestWorker)
        {
            // Not in the middle of an escaped character.
            var cut = name.LastIndexOf('%', LongestWorker - 1, 2);
            name = name[..(cut > 0 ? cut : LongestWorker)];
        }
        return $"{name}@{Uri.EscapeDataString(process)}";
    }

    /// <summary>Process that a slate is of; null for another file.</summary>
    public static string? ProcessOf(string slate) => slate.Split('@') is [_, var process] ? Uri.UnescapeDataString(process) : null;

    public static void WriteTo(Span<byte> line, in ShardToken token)
    {
        line.Fill((byte)' ');
        Encoding.UTF8.TryGetBytes(string.Create(CultureInfo.InvariantCulture, $"{token.Kind} {token.Step} {token.Shard} {token.Epoch} {token.Attempt} {token.Trial}"), line[..^1], out _);
        line[^1] = (byte)'\n';
    }

    /// <summary>Null when nothing stands there.</summary>
    public static AttemptMark? Parse(string slate, ReadOnlySpan<byte> line)
    {
        return slate.Split('@') is [var worker, var process]
            && Encoding.UTF8.GetString(line).TrimEnd().Split(' ', 6) is [var kind, var step, var shard, var epoch, var attempt, var trial]
            && Enum.TryParse<WorkKind>(kind, out var work) && Number(step) is { } ofStep && Number(shard) is { } ofShard && Number(epoch) is { } ofEpoch && Number(attempt) is { } ofAttempt
            ? new AttemptMark(new ShardToken(trial, ofEpoch, work, (int)ofStep, (int)ofShard, (int)ofAttempt), Uri.UnescapeDataString(worker), Uri.UnescapeDataString(process))
            : null;

        static long? Number(string text) => long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;
    }
}

/// <summary>What a trial's coordinator knows of attempts that were begun and not ended, under any coordinator of the trial: read when one takes over and when an attempt is lost, wiped out by the commit of the work.</summary>
internal sealed class AttemptMarks(IDisk disk, SiloFolders folders, IWorkerInventory inventory, string trial)
{
    private readonly List<(string Path, AttemptMark Mark, bool Left)> _known = [];

    /// <summary>Looks what there is.</summary>
    public async Task ReadAsync()
    {
        var found = new List<(string Path, AttemptMark Mark, bool Left)>();
        foreach (var path in await disk.ListAsync(folders.Begun))
        {
            var slate = Path.GetFileName(path);
            if (AttemptMark.ProcessOf(slate) is not { } process)
                continue;
            // Before it is read: what a process that has ended left does not change any more.
            var left = inventory.HasEnded(process);
            if (await disk.ReadAsync(path) is not { } line)
                continue;
            if (AttemptMark.Parse(slate, line) is { } mark)
            {
                if (mark.Token.Trial == trial)
                    found.Add((path, mark, left));
            }
            else if (left)
            {
                Remove(path);
            }
        }
        _known.Clear();
        _known.AddRange(found);
    }

    /// <summary>Whether a worker had begun an attempt and has not ended it.</summary>
    public bool Has(ShardToken token) => _known.Exists(known => known.Mark.Token == token);

    /// <summary>Attempts at a piece of work whose workers' processes have ended in the middle of it.</summary>
    public async Task<IEnumerable<AttemptMark>> LeftAsync(ShardToken work)
    {
        if (_known.Exists(known => !known.Left && inventory.HasEnded(known.Mark.Process)))
            await ReadAsync();
        return _known.Where(known => known.Left && (known.Mark.Token with { Epoch = work.Epoch, Attempt = work.Attempt }) == work).Select(known => known.Mark);
    }

    /// <summary>Attempts at work that is over do not count any more.</summary>
    public void Clear(Func<ShardToken, bool> isOver)
    {
        foreach (var (path, mark, left) in _known)
            if (left && isOver(mark.Token))
                Remove(path);
        _known.RemoveAll(known => isOver(known.Mark.Token));
    }

    private void Remove(string path)
    {
        try
        {
            disk.RemoveSlate(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Of a step that is over it counts for nothing.
        }
    }
}
