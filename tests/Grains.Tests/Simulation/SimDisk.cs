using System.Text;
using System.Text.Json;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>The cluster's data folder, in memory. Writes take time, can fail, and can be done although they are said to have failed.</summary>
internal sealed class SimDisk(World world)
{
    private readonly SortedDictionary<string, byte[]> _files = new(StringComparer.Ordinal), _durable = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Silo> _locks = [];

    /// <summary>Commits of trials as they reached the disk: path, step, epoch.</summary>
    public List<(string Path, int Step, long Epoch)> Commits { get; } = [];

    /// <summary>Files that were removed while a trial's committed state needed them.</summary>
    public List<string> RemovedTooSoon { get; } = [];

    /// <summary>Commits that were seen before the power was cut and not after.</summary>
    public List<string> Lost { get; } = [];

    /// <summary>Broken on purpose: a flush returns before anything is on the disk.</summary>
    public bool IgnoresFlushes { get; set; }

    /// <summary>Broken on purpose: what is appended never arrives.</summary>
    public bool LosesAppends { get; set; }

    /// <summary>Writes that will fail whatever the plan's probability.</summary>
    public int FailNext { get; set; }

    private int _boots;

    public IJournalMedium Of(Silo silo) => new View(this, silo);

    public byte[]? Read(string path) => _files.GetValueOrDefault(path);

    /// <summary>Opens a silo's journaled disk over its view of this one.</summary>
    public static Task OpenAsync(IJournalMedium view, JournaledDisk journaled) => ((View)view).OpenAsync(journaled);

    public IReadOnlyList<string> List(string folder) => [.. _files.Keys.Where(path => Path.GetDirectoryName(path) == folder)];

    /// <summary>The machine's power is cut: of what was not flushed, each file keeps all, nothing or a beginning.</summary>
    public void LosePower()
    {
        _boots++;
        foreach (var path in _files.Keys.Union(_durable.Keys).Order(StringComparer.Ordinal).ToArray())
        {
            var (seen, durable) = (_files.GetValueOrDefault(path), _durable.GetValueOrDefault(path));
            if (seen == durable)
                continue;
            var (grown, chance) = (seen is not null && durable is not null && seen.AsSpan().StartsWith(durable), world.Random.Next(3));
            var left = chance == 0 || seen is null ? durable : chance == 1 ? seen : seen[..world.Random.Next(grown ? durable!.Length : 0, seen.Length + 1)];
            if (left != seen)
                world.Tally.Add("files that lost what was not flushed");
            Put(_files, left);
            Put(_durable, left);

            void Put(SortedDictionary<string, byte[]> files, byte[]? contents)
            {
                if (contents is null)
                    files.Remove(path);
                else
                    files[path] = contents;
            }
        }
    }

    /// <summary>After what was forgotten was written again: is every commit there that anyone can have seen?</summary>
    private void Recovered()
    {
        foreach (var last in Commits.GroupBy(commit => commit.Path).Select(path => path.Last()).ToArray())
        {
            if (Read(last.Path) is not { } contents || StateOf(last.Path, contents) is not { } now || now.Step < last.Step || now.Epoch < last.Epoch)
                Lost.Add($"step {last.Step} of epoch {last.Epoch} in {last.Path}");
            else if (now != last)
                Commits.Add(now);
        }
    }

    private void Apply(string path, byte[] contents, Durability durability)
    {
        _files[path] = contents;
        if (durability != Durability.Seen && !IgnoresFlushes)
            _durable[path] = contents;
        if (StateOf(path, contents) is { } commit)
            Commits.Add(commit);
    }

    private void Removed(string path)
    {
        var run = Path.GetFileName(Path.GetDirectoryName(path)!);
        foreach (var state in _files.Where(file => file.Key.Contains("/state/trial/", StringComparison.Ordinal)).Select(file => Encoding.UTF8.GetString(file.Value)))
            if (state.Contains($"\"index\":{run},", StringComparison.Ordinal) && state.Contains("\"state\":\"running\"", StringComparison.Ordinal) && state.Contains(Path.GetFileNameWithoutExtension(path), StringComparison.Ordinal))
                RemovedTooSoon.Add(path);
    }

    private static (string Path, int Step, long Epoch)? StateOf(string path, byte[] contents)
    {
        if (!path.Contains("/state/trial/", StringComparison.Ordinal))
            return null;
        var text = Encoding.UTF8.GetString(contents);
        using var state = JsonDocument.Parse(text[(text.IndexOf('\n', StringComparison.Ordinal) + 1)..]);
        return (path, state.RootElement.GetProperty("step").GetInt32(), state.RootElement.GetProperty("epoch").GetInt64());
    }

    private bool IsStep(string path, byte[] contents) =>
        StateOf(path, contents) is { Step: > 0 } next && next.Step > (Commits.FindLast(commit => commit.Path == path) is { Path: not null } last ? last.Step : 0);

    /// <summary>What one silo sees. After its end nothing it does reaches the disk.</summary>
    private sealed class View(SimDisk disk, Silo silo) : IJournalMedium
    {
        private bool _recovering;

        public string Boot => $"boot {disk._boots}";

        public bool Exists(string path) => disk._files.ContainsKey(path);

        public async Task<byte[]?> ReadAsync(string path)
        {
            await silo.PauseAsync(0.2, 2);
            if (IsAway())
                throw new IOException("injected: the disk is away");
            return disk.Read(path)?.ToArray();
        }

        public async Task<byte[]> ReadAsync(string path, long start, int length) =>
            (await ReadAsync(path) ?? throw new FileNotFoundException(path))[(int)start..(int)(start + length)];

        public async Task WriteAsync(string path, ReadOnlyMemory<byte> contents, Durability durability, long version)
        {
            if (_recovering)
            {
                await silo.PauseAsync(0.2, 3);
                disk._files[path] = contents.ToArray();
                return;
            }
            var bytes = contents.ToArray();
            if (disk.IsStep(path, bytes))
                disk.World.StepUnderWay = silo;
            await silo.PauseAsync(0.2, 3);
            var step = disk.IsStep(path, bytes);
            if (step)
                await disk.World.ReachedAsync(Phase.BeforeCommit, silo);
            var away = IsAway();
            var fails = away || Fails();
            var applied = !fails || (!away && disk.World.Chance(0.5, always: true));
            if (applied)
                disk.Apply(path, bytes, durability);
            if (step)
                disk.World.StepUnderWay = null;
            if (fails)
            {
                disk.World.Tally.Add(applied ? "writes done but said to have failed" : "writes failed");
                throw new IOException("injected: the disk does not answer");
            }
            if (step)
                await disk.World.ReachedAsync(Phase.AfterCommit, silo);
        }

        public async Task AppendAsync(string path, ReadOnlyMemory<byte> contents, Durability durability)
        {
            if (silo.Dead || disk.LosesAppends)
                return;
            if (IsAway())
                throw new IOException("injected: the disk is away");
            disk._files[path] = [.. disk.Read(path) ?? [], .. contents.Span];
            if (durability == Durability.Seen)
                return;
            if (silo.IsJournaled)
            {
                // A journal: here a flush takes its time, and what the disk says of it is the journal's affair.
                await silo.PauseAsync(0.5, 5);
                if (Fails())
                {
                    disk.World.Tally.Add("flushes failed");
                    throw new IOException("injected: the disk does not flush");
                }
            }
            if (!disk.IgnoresFlushes)
                disk._durable[path] = disk._files[path];
        }

        public async Task WriteAtAsync(string path, long start, ReadOnlyMemory<byte> contents)
        {
            if (!_recovering)
                await silo.PauseAsync(0.2, 2);
            var (old, end) = (disk.Read(path) ?? [], (int)start + contents.Length);
            var bytes = new byte[Math.Max(old.Length, end)];
            old.CopyTo(bytes, 0);
            contents.Span.CopyTo(bytes.AsSpan((int)start));
            disk._files[path] = bytes;
        }

        public Task DeleteAsync(string path, Durability durability)
        {
            if (!silo.Dead)
            {
                if (durability != Durability.Seen)
                    disk._durable.Remove(path);
                if (disk._files.Remove(path))
                    disk.Removed(path);
            }
            return Task.CompletedTask;
        }

        public ISlate OpenSlate(string path) => new Slate(disk, silo, path);

        public void RemoveSlate(string path)
        {
            if (!silo.Dead)
                disk._files.Remove(path);
        }

        public long LengthOf(string path) => disk.Read(path)?.Length ?? 0;

        public async Task SyncAsync(string folder)
        {
            var (seen, durable) = (new Dictionary<string, byte[]>(disk._files), new Dictionary<string, byte[]>(disk._durable));
            await silo.PauseAsync(10, 100);
            // What was flushed meanwhile is newer.
            foreach (var path in disk.IgnoresFlushes ? [] : seen.Keys.Union(durable.Keys).Where(path => disk._durable.GetValueOrDefault(path) == durable.GetValueOrDefault(path)).ToArray())
            {
                if (seen.TryGetValue(path, out var contents))
                    disk._durable[path] = contents;
                else
                    disk._durable.Remove(path);
            }
            disk.World.Tally.Add("journals ended");
        }

        public async Task OpenAsync(JournaledDisk journaled)
        {
            _recovering = true;
            var again = await journaled.OpenAsync();
            _recovering = false;
            disk.World.Tally.Add("changes written again", again);
            disk.Recovered();
        }

        public Task<IReadOnlyList<string>> ListAsync(string folder) => Task.FromResult(disk.List(folder));

        private bool IsAway() =>
            disk.World.Plan.Outages.Any(outage => disk.World.Time.Now >= TimeSpan.FromSeconds(outage.From).Ticks && disk.World.Time.Now < TimeSpan.FromSeconds(outage.Until).Ticks) && disk.World.Count("answers that an outage refused");

        private bool Fails()
        {
            // Of a journal every failure is the end of its silo.
            var fails = disk.FailNext > 0 || disk.World.Chance(disk.World.Plan.WriteFails / (silo.IsJournaled ? 10 : 1));
            disk.FailNext = Math.Max(0, disk.FailNext - 1);
            return fails;
        }

        public IDisposable? TryLock(string path)
        {
            if (disk._locks.TryGetValue(path, out var holder) && !holder.Dead)
                return null;
            disk._locks[path] = silo;
            return new Release(() => disk._locks.Remove(path));
        }
    }

    private World World => world;

    private sealed class Slate(SimDisk disk, Silo silo, string path) : ISlate
    {
        public void Write(ReadOnlySpan<byte> contents)
        {
            if (silo.Dead)
                return;
            disk._files[path] = contents.ToArray();
            if (AttemptMark.Parse(Path.GetFileName(path), contents) is { } mark)
                disk.World.Begun(mark, silo);
        }

        public void Dispose()
        {
        }
    }

    private sealed class Release(Action release) : IDisposable
    {
        public void Dispose() => release();
    }
}
