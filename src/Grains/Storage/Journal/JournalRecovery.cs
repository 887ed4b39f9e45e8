using System.Globalization;
using System.Text;

namespace AdjointDpm.Grains.Storage;

/// <summary>Ends journals: brings what they hold to the disk in its own place, then removes them.</summary>
internal static class JournalRecovery
{
    private const string Segment = ".journal", Lock = ".lock";

    public static string SegmentPath(string folder, string owner, int number) => Path.Combine(folder, string.Create(CultureInfo.InvariantCulture, $"{owner}-{number:d8}{Segment}"));

    /// <summary>Held by a silo as long as it lives.</summary>
    public static string OwnerLock(string folder, string owner) => Path.Combine(folder, owner + Lock);

    /// <summary>Held by whoever ends journals.</summary>
    public static string RecoveryLock(string folder) => Path.Combine(folder, "recovery" + Lock);

    /// <summary>Whether a journal is of a time before the machine was started.</summary>
    public static async Task<bool> IsNeededAsync(IJournalMedium files, string folder)
    {
        foreach (var path in (await files.ListAsync(folder)).Where(path => path.EndsWith(Segment, StringComparison.Ordinal)))
        {
            try
            {
                var begin = JournalRecord.ReadAll(await files.ReadAsync(path, 0, (int)Math.Min(files.LengthOf(path), 256)));
                if (begin.Count > 0 && Encoding.UTF8.GetString(begin[0].Contents.Span) != files.Boot)
                    return true;
            }
            catch (IOException)
            {
                // Ended in between.
            }
        }
        return false;
    }

    /// <summary>
    /// Ends the journals of silos that are gone, and those of one's own that are done with. What the machine forgot when it was started anew is
    /// written again; of silos that ended before that, everything that anyone was told of is in its place already.
    /// </summary>
    /// <remarks>Under <see cref="RecoveryLock"/>. Nothing is removed before everything is on the disk, and the older always before the newer.</remarks>
    /// <param name="files">Disk.</param>
    /// <param name="root">Data folder.</param>
    /// <param name="folder">Folder of the journals.</param>
    /// <param name="own">Own segments, the oldest first.</param>
    /// <returns>Number of records that were written again.</returns>
    public static async Task<int> RunAsync(IJournalMedium files, string root, string folder, IReadOnlyList<string> own)
    {
        var gone = new List<(long Stamp, string Path)>();
        var lost = new List<JournalRecord>();
        var held = new List<(IDisposable Lock, string Path)>();
        try
        {
            foreach (var owner in (await files.ListAsync(folder)).Where(path => path.EndsWith(Segment, StringComparison.Ordinal)).GroupBy(OwnerOf).Where(owner => !owner.Any(own.Contains)))
            {
                if (files.TryLock(OwnerLock(folder, owner.Key)) is not { } ended)
                    continue;
                held.Add((ended, OwnerLock(folder, owner.Key)));
                foreach (var path in owner)
                {
                    var records = JournalRecord.ReadAll(await files.ReadAsync(path) ?? []);
                    gone.Add((records.Count > 0 ? records[0].Stamp : 0, path));
                    if (records is [{ Kind: JournalKind.Begin } begin, ..] && Encoding.UTF8.GetString(begin.Contents.Span) != files.Boot)
                        lost.AddRange(records);
                }
            }
            if (gone.Count == 0 && own.Count == 0)
                return 0;
            var again = await WriteAgainAsync(files, root, lost);
            await files.SyncAsync(folder);
            foreach (var path in gone.Order().Select(segment => segment.Path).Concat(own))
                await files.DeleteAsync(path);
            foreach (var (_, path) in held)
                await files.DeleteAsync(path, Durability.Seen);
            return again;
        }
        finally
        {
            held.ForEach(one => one.Lock.Dispose());
        }
    }

    private static async Task<int> WriteAgainAsync(IJournalMedium files, string root, List<JournalRecord> lost)
    {
        // Files have one writer, whose records are in order; versions tell the order of those that have several.
        var records = lost.OrderBy(record => record.Stamp).ToList();
        var again = 0;
        // A file that was removed is not removed again: another silo may have made it anew since, with equal contents, and have ended its journal.
        var replaced = records.Where(record => record.Kind is JournalKind.Replaced or JournalKind.Delete).GroupBy(record => record.Path).ToDictionary(path => path.Key, path => path.Max(record => record.Stamp));
        foreach (var record in records)
        {
            if (replaced.TryGetValue(record.Path, out var since) && record.Stamp <= since)
                continue;
            var path = Path.Combine(root, record.Path);
            switch (record.Kind)
            {
                case JournalKind.Put when record.Number == 0 || record.Number >= VersionOf(await files.ReadAsync(path)):
                    await files.WriteAsync(path, record.Contents, Durability.Seen, record.Number);
                    again++;
                    break;
                case JournalKind.Append:
                    await files.WriteAtAsync(path, record.Number, record.Contents);
                    again++;
                    break;
            }
        }
        return again;
    }

    private static long VersionOf(byte[]? file) =>
        file is not null && Array.IndexOf(file, (byte)'\n') is > 0 and var end && long.TryParse(file.AsSpan(0, end), NumberStyles.None, CultureInfo.InvariantCulture, out var version) ? version : 0;

    private static string OwnerOf(string path) => Path.GetFileName(path) is var name ? name[..name.LastIndexOf('-')] : "";
}
