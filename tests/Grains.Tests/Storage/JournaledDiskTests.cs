using System.Text;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Tests.Storage;

/// <summary>The journal on real files. What becomes of it under thousands of schedules of power cuts is in the simulator's tests.</summary>
public sealed class JournaledDiskTests : IAsyncDisposable
{
    private readonly List<JournaledDisk> _disks = [];
    private readonly List<OneThread> _threads = [];
    private readonly string _root = Directory.CreateTempSubdirectory("adjointdpm-journal-").FullName;
    private int _copies;

    public async ValueTask DisposeAsync()
    {
        foreach (var disk in _disks)
            await disk.DisposeAsync();
        _threads.ForEach(thread => thread.Dispose());
        Directory.Delete(_root, recursive: true);
    }

    [Fact]
    public async Task WhatManyAskForAtOnce_SharesFlushes_AndIsInItsPlace()
    {
        var medium = new Medium { FlushTakes = TimeSpan.FromMilliseconds(20) };
        var disk = await OpenAsync("a", medium);
        await Task.WhenAll(Enumerable.Range(0, 200).Select(i => disk.WriteAsync(At("a", $"{i}.state"), Bytes($"1\n{i}"), Durability.Now, 1)));
        Assert.InRange(disk.Flushes, 1, 20);
        for (var i = 0; i < 200; i++)
            Assert.Equal($"1\n{i}", await File.ReadAllTextAsync(At("a", $"{i}.state"), Cancelled));
    }

    [Fact]
    public async Task WhatMayWait_IsSeenHere_AndIsWrittenBeforeWhatFollows_OrByItself()
    {
        var disk = await OpenAsync("a", new Medium());
        await disk.WriteAsync(At("a", "first.bin"), Bytes("1"), Durability.BeforeTheNext);
        await disk.AppendAsync(At("a", "ledger/1.jsonl"), Bytes("x\n"), Durability.BeforeTheNext);
        Assert.True(disk.Exists(At("a", "first.bin")));
        await disk.AppendAsync(At("a", "ledger/1.jsonl"), Bytes("y\n"));
        Assert.Equal(["first.bin", "ledger/1.jsonl", "ledger/1.jsonl"], Records("a").Select(record => record.Path));
        Assert.Equal(1, disk.Flushes);
        Assert.Equal("x\ny\n", await File.ReadAllTextAsync(At("a", "ledger/1.jsonl"), Cancelled));

        await disk.WriteAsync(At("a", "alone.bin"), Bytes("2"), Durability.BeforeTheNext);
        for (var waited = 0; !File.Exists(At("a", "alone.bin")); waited++)
        {
            Assert.True(waited < 500);
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, Cancelled);
        }
    }

    [Fact]
    public async Task CrashBetweenTheMembersOfABatch_AtEveryByte_KeepsABeginning()
    {
        var disk = await OpenAsync("a", new Medium());
        await disk.WriteAsync(At("a", "s"), Bytes("1\none"), Durability.BeforeTheNext, 1);
        await disk.AppendAsync(At("a", "l"), Bytes("x\n"), Durability.BeforeTheNext);
        await disk.AppendAsync(At("a", "l"), Bytes("y\n"), Durability.BeforeTheNext);
        await disk.WriteAsync(At("a", "s"), Bytes("2\ntwo"), Durability.Now, 2);
        var segment = await File.ReadAllBytesAsync(Assert.Single(Segments("a")), Cancelled);
        var seen = new List<string>();
        for (var cut = 0; cut <= segment.Length; cut++)
        {
            var after = await RestartedAsync(segment[..cut]);
            if (seen.Count == 0 || seen[^1] != after)
                seen.Add(after);
        }
        Assert.Equal(["|", "1\none|", "1\none|x\n", "1\none|x\ny\n", "2\ntwo|x\ny\n"], seen);

        // A byte that is not what was written ends the segment like a cut.
        for (var bad = segment.Length - 1; bad > segment.Length - 20; bad--)
        {
            var damaged = segment.ToArray();
            damaged[bad] ^= 1;
            Assert.Equal("1\none|x\ny\n", await RestartedAsync(damaged));
        }

        async Task<string> RestartedAsync(byte[] left)
        {
            var name = $"cut-{_copies++}";
            Directory.CreateDirectory(At(name, "wal"));
            await File.WriteAllBytesAsync(At(name, "wal/1.a-00000000.journal"), left, Cancelled);
            // Torn as well: what was not flushed in its place.
            await File.WriteAllTextAsync(At(name, "l"), "", Cancelled);
            var again = await OpenAsync(name, new Medium { Boot = "next" });
            return Encoding.UTF8.GetString(await again.ReadAsync(At(name, "s")) ?? []) + "|" + Encoding.UTF8.GetString((await again.ReadAsync(At(name, "l")))!);
        }
    }

    [Fact]
    public async Task OfTwoSilos_TheNewerVersionStays_ThoughItsJournalHasEnded()
    {
        var (first, second) = (await OpenAsync("a", new Medium(), "first"), await OpenAsync("a", new Medium(), "second"));
        await first.WriteAsync(At("a", "s"), Bytes("5\nof the first"), Durability.Now, 5);
        await second.WriteAsync(At("a", "s"), Bytes("6\nof the second"), Durability.Now, 6);
        await second.DisposeAsync();
        var copy = Crash("a");
        var disk = await OpenAsync(copy, new Medium { Boot = "next" });
        Assert.Equal("6\nof the second", Text(await disk.ReadAsync(At(copy, "s"))));

        // And when both journals are there, the later of equal versions: the former was told to nobody, or the latter could not have been written.
        await first.WriteAsync(At("a", "t"), Bytes("5\nfirst"), Durability.Now, 5);
        var third = await OpenAsync("a", new Medium(), "third");
        await third.WriteAsync(At("a", "t"), Bytes("5\nthird"), Durability.Now, 5);
        copy = Crash("a");
        File.Delete(At(copy, "t"));
        Assert.Equal("5\nthird", Text(await (await OpenAsync(copy, new Medium { Boot = "next" })).ReadAsync(At(copy, "t"))));
    }

    [Fact]
    public async Task OfASiloThatWasKilled_OnAMachineThatRanOn_NothingIsWrittenAgain()
    {
        var disk = await OpenAsync("a", new Medium());
        await disk.WriteAsync(At("a", "s"), Bytes("1\none"), Durability.Now, 1);
        var copy = Crash("a");
        await File.WriteAllTextAsync(At(copy, "s"), "1\nof a later silo, whose first commit it is", Cancelled);
        var next = await OpenAsync(copy, new Medium());
        Assert.Equal("1\nof a later silo, whose first commit it is", Text(await next.ReadAsync(At(copy, "s"))));
        Assert.Empty(Segments(copy));
    }

    [Fact]
    public async Task WhatWasRemovedOrReplacedWithoutTheJournal_IsNotBroughtBack()
    {
        var disk = await OpenAsync("a", new Medium());
        var large = new byte[JournaledDisk.LongestRecord + 1];
        foreach (var name in new[] { "removed", "removed and made", "large", "seen" })
            await disk.WriteAsync(At("a", name), Bytes("small"));
        await disk.DeleteAsync(At("a", "removed"), Durability.BeforeTheNext);
        await disk.DeleteAsync(At("a", "removed and made"), Durability.BeforeTheNext);
        await disk.WriteAsync(At("a", "removed and made"), Bytes("again"), Durability.BeforeTheNext);
        await disk.WriteAsync(At("a", "seen"), Bytes("not flushed"), Durability.Seen);
        await disk.WriteAsync(At("a", "large"), large);
        var copy = Crash("a");
        var next = await OpenAsync(copy, new Medium { Boot = "next" });
        Assert.Null(await next.ReadAsync(At(copy, "removed")));
        Assert.Equal("again", Text(await next.ReadAsync(At(copy, "removed and made"))));
        Assert.Equal("not flushed", Text(await next.ReadAsync(At(copy, "seen"))));
        Assert.Equal(large, await next.ReadAsync(At(copy, "large")));
    }

    [Fact]
    public async Task JournalThatHasBecomeLong_IsEnded_AndOneThatIsClosed()
    {
        var medium = new Medium();
        var disk = await OpenAsync("a", medium, segmentBytes: 1000);
        for (var i = 0; i < 50; i++)
            await disk.AppendAsync(At("a", "l"), new byte[100]);
        for (var waited = 0; medium.Syncs == 0; waited++)
        {
            Assert.True(waited < 500);
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, Cancelled);
        }
        await disk.DisposeAsync();
        Assert.Empty(Segments("a"));
        Assert.Equal(5000, new FileInfo(At("a", "l")).Length);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => disk.AppendAsync(At("a", "l"), new byte[1]));
    }

    [Fact]
    public async Task JournalThatCannotBeWritten_EndsTheSilo_AndNothingThatFollowsIsWritten()
    {
        var (medium, ends) = (new Medium(), 0);
        var disk = await OpenAsync("a", medium, failed: _ => ends++);
        await disk.WriteAsync(At("a", "before"), Bytes("1"));
        medium.Full = true;
        await disk.AppendAsync(At("a", "ledger"), Bytes("2"), Durability.BeforeTheNext);
        await Assert.ThrowsAsync<IOException>(() => disk.WriteAsync(At("a", "state that names it"), Bytes("3")));
        medium.Full = false;
        await Assert.ThrowsAsync<IOException>(() => disk.WriteAsync(At("a", "after"), Bytes("4")));
        Assert.Equal(1, ends);
        Assert.True(File.Exists(At("a", "before")));
        Assert.False(File.Exists(At("a", "state that names it")));
        Assert.False(File.Exists(At("a", "after")));
    }

    private static CancellationToken Cancelled => TestContext.Current.CancellationToken;

    private static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    private static string? Text(byte[]? bytes) => bytes is null ? null : Encoding.UTF8.GetString(bytes);

    private string At(string name, string path) => Path.Combine(_root, name, path);

    private string[] Segments(string name) => Directory.GetFiles(At(name, "wal"), "*.journal");

    private List<JournalRecord> Records(string name) => [.. JournalRecord.ReadAll(File.ReadAllBytes(Assert.Single(Segments(name)))).Skip(1)];

    /// <summary>The folder as it lies there now, without the processes that use it.</summary>
    private string Crash(string name)
    {
        var copy = $"copy-{_copies++}";
        foreach (var path in Directory.GetFiles(At(name, ""), "*", SearchOption.AllDirectories).Where(path => !path.EndsWith(".lock", StringComparison.Ordinal)))
        {
            var to = Path.Combine(At(copy, ""), Path.GetRelativePath(At(name, ""), path));
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            File.Copy(path, to);
        }
        return copy;
    }

    private async Task<JournaledDisk> OpenAsync(string name, Medium medium, string owner = "1.a", int segmentBytes = 1 << 20, Action<Exception>? failed = null)
    {
        var thread = new OneThread("journal");
        _threads.Add(thread);
        if (_copies > 0 && owner == "1.a")
            owner = $"2.{_copies}";
        var disk = new JournaledDisk(medium, At(name, ""), owner, TimeProvider.System, thread, TaskScheduler.Default, failed ?? (_ => { }), segmentBytes);
        _disks.Add(disk);
        await disk.OpenAsync();
        return disk;
    }

    /// <summary>The real disk, on a machine that can be started anew.</summary>
    private sealed class Medium : IJournalMedium
    {
        private readonly LocalDisk _disk = new();

        public string Boot { get; init; } = "this";

        public TimeSpan FlushTakes { get; init; }

        public bool Full { get; set; }

        public int Syncs { get; private set; }

        public bool Exists(string path) => _disk.Exists(path);

        public Task<byte[]?> ReadAsync(string path) => _disk.ReadAsync(path);

        public Task<byte[]> ReadAsync(string path, long start, int length) => _disk.ReadAsync(path, start, length);

        public Task WriteAsync(string path, ReadOnlyMemory<byte> contents, Durability durability = Durability.Now, long version = 0) => _disk.WriteAsync(path, contents, durability, version);

        public async Task AppendAsync(string path, ReadOnlyMemory<byte> contents, Durability durability = Durability.Now)
        {
            if (Full)
                throw new IOException("injected: the disk is full");
            await Task.Delay(FlushTakes, TimeProvider.System);
            await _disk.AppendAsync(path, contents, Durability.Seen);
        }

        public Task DeleteAsync(string path, Durability durability = Durability.Now) => _disk.DeleteAsync(path, Durability.Seen);

        public Task<IReadOnlyList<string>> ListAsync(string folder) => _disk.ListAsync(folder);

        public ISlate OpenSlate(string path) => _disk.OpenSlate(path);

        public void RemoveSlate(string path) => _disk.RemoveSlate(path);

        public IDisposable? TryLock(string path) => _disk.TryLock(path);

        public long LengthOf(string path) => _disk.LengthOf(path);

        public Task WriteAtAsync(string path, long start, ReadOnlyMemory<byte> contents) => _disk.WriteAtAsync(path, start, contents);

        public Task SyncAsync(string folder)
        {
            Syncs++;
            return Task.CompletedTask;
        }
    }
}
