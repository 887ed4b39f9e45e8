using System.Text;
using System.Text.Json;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Tests.Simulation;

/// <summary>The cluster's data folder, in memory. Writes take time, can fail, and can be done although they are said to have failed.</summary>
internal sealed class SimDisk(World world)
{
    private readonly SortedDictionary<string, byte[]> _files = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Silo> _locks = [];

    /// <summary>Commits of trials as they reached the disk: path, step, epoch.</summary>
    public List<(string Path, int Step, long Epoch)> Commits { get; } = [];

    /// <summary>Files that were removed while a trial's committed state needed them.</summary>
    public List<string> RemovedTooSoon { get; } = [];

    /// <summary>Broken on purpose: what is appended never arrives.</summary>
    public bool LosesAppends { get; set; }

    /// <summary>Writes that will fail whatever the plan's probability.</summary>
    public int FailNext { get; set; }

    public IDisk Of(Silo silo) => new View(this, silo);

    public byte[]? Read(string path) => _files.GetValueOrDefault(path);

    public IReadOnlyList<string> List(string folder) => [.. _files.Keys.Where(path => Path.GetDirectoryName(path) == folder)];

    private void Apply(string path, byte[] contents)
    {
        _files[path] = contents;
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
    private sealed class View(SimDisk disk, Silo silo) : IDisk
    {
        public bool Exists(string path) => disk._files.ContainsKey(path);

        public async Task<byte[]?> ReadAsync(string path)
        {
            await silo.PauseAsync(0.2, 2);
            return disk.Read(path)?.ToArray();
        }

        public async Task<byte[]> ReadAsync(string path, long start, int length) =>
            (await ReadAsync(path) ?? throw new FileNotFoundException(path))[(int)start..(int)(start + length)];

        public async Task WriteAsync(string path, ReadOnlyMemory<byte> contents)
        {
            var bytes = contents.ToArray();
            await silo.PauseAsync(0.2, 3);
            var step = disk.IsStep(path, bytes);
            if (step)
                await disk.World.ReachedAsync(Phase.BeforeCommit, silo);
            var fails = disk.FailNext > 0 || disk.World.Chance(disk.World.Plan.WriteFails);
            disk.FailNext = Math.Max(0, disk.FailNext - 1);
            var applied = !fails || disk.World.Chance(0.5, always: true);
            if (applied)
                disk.Apply(path, bytes);
            if (fails)
            {
                disk.World.Tally.Add(applied ? "writes done but said to have failed" : "writes failed");
                throw new IOException("injected: the disk does not answer");
            }
            if (step)
                await disk.World.ReachedAsync(Phase.AfterCommit, silo);
        }

        public void Append(string path, ReadOnlySpan<byte> contents, bool durable)
        {
            if (silo.Dead || disk.LosesAppends)
                return;
            disk._files[path] = [.. disk.Read(path) ?? [], .. contents];
        }

        public void Delete(string path)
        {
            if (!silo.Dead && disk._files.Remove(path))
                disk.Removed(path);
        }

        public IReadOnlyList<string> List(string folder) => disk.List(folder);

        public IDisposable? TryLock(string path)
        {
            if (disk._locks.TryGetValue(path, out var holder) && !holder.Dead)
                return null;
            disk._locks[path] = silo;
            return new Release(() => disk._locks.Remove(path));
        }
    }

    private World World => world;

    private sealed class Release(Action release) : IDisposable
    {
        public void Dispose() => release();
    }
}
