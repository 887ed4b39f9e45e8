using System.Text;

namespace AdjointDpm.Grains.Storage;

/// <summary>A disk on which what many ask for within the same moment costs one flush: changes go into a journal of the silo, which is flushed, and then to their places, which are not.</summary>
/// <remarks>
/// <para>Nothing is in its place, and so seen by other silos, before it is in the journal and flushed; nobody is told before it is in its place.
/// A silo that is killed has therefore lost nothing that anyone knows of. After the machine itself was started anew, the first silo writes again
/// what journals hold, before it reads anything (<see cref="JournalRecovery"/>). A journal that has become long is ended: everything
/// is brought to the disk in its place, and the journal removed.</para>
/// <para>For silos of one machine. A journal that cannot be written ends the silo: what came after the gap must never be believed.</para>
/// </remarks>
internal sealed class JournaledDisk : IDisk, IAsyncDisposable
{
    /// <summary>Larger files are written and flushed in their place: twice would cost more than a flush.</summary>
    public const int LongestRecord = 1 << 16;

    /// <summary>What may wait for others waits this long at most.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(20);

    private readonly Lock _gate = new();
    private readonly Dictionary<string, Pending> _pending = new(StringComparer.Ordinal);
    private readonly List<string> _ended = [];
    private readonly IJournalMedium _files;
    private readonly string _root, _folder, _owner;
    private readonly TimeProvider _time;
    private readonly TaskScheduler _writer, _placer;
    private readonly Action<Exception> _failed;
    private readonly int _segmentBytes;
    private List<Entry> _queue = [];
    private Task _placed = Task.CompletedTask, _checkpoint = Task.CompletedTask;
    private IDisposable? _life;
    private Exception? _failure;
    private bool _writing, _urgent, _waiting, _closed;
    private long _stamp, _written;
    private int _segment;

    /// <param name="files">Disk below.</param>
    /// <param name="root">Data folder; everything that is written lies in it.</param>
    /// <param name="owner">Name that no other process has had.</param>
    /// <param name="time">Clock; its timestamps are those of all silos of the machine.</param>
    /// <param name="writer">Where the journal is written; may be blocked.</param>
    /// <param name="placer">Where changes are brought to their places.</param>
    /// <param name="failed">Told once when the journal cannot be written: the process must end.</param>
    /// <param name="segmentBytes">Length of a segment, after which it is ended.</param>
    public JournaledDisk(IJournalMedium files, string root, string owner, TimeProvider time, TaskScheduler writer, TaskScheduler placer, Action<Exception> failed, int segmentBytes = 1 << 25)
    {
        (_files, _root, _folder, _owner, _time, _writer, _placer, _failed, _segmentBytes) = (files, root.TrimEnd(Path.DirectorySeparatorChar), Path.Combine(root, "wal"), owner, time, writer, placer, failed, segmentBytes);
    }

    private string Segment => JournalRecovery.SegmentPath(_folder, _owner, _segment);

    /// <summary>Flushes of the journal so far.</summary>
    public long Flushes { get; private set; }

    /// <summary>Makes good what the machine forgot. Before anything else is asked of this disk, or read of the folder by others.</summary>
    /// <returns>Number of changes that were written again.</returns>
    public async Task<int> OpenAsync()
    {
        // Before any other silo can take this one's journal for one of a silo that is gone.
        _life = _files.TryLock(JournalRecovery.OwnerLock(_folder, _owner)) ?? throw new IOException($"Another process is '{_owner}'.");
        while (true)
        {
            using var recovery = _files.TryLock(JournalRecovery.RecoveryLock(_folder));
            if (recovery is not null)
                return await JournalRecovery.RunAsync(_files, _root, _folder, []);
            // Another silo ends journals; that concerns this one only when they are of before the machine was started.
            if (!await JournalRecovery.IsNeededAsync(_files, _folder))
                return 0;
            await Task.Delay(TimeSpan.FromMilliseconds(20), _time);
        }
    }

    public bool Exists(string path)
    {
        lock (_gate)
            if (_pending.TryGetValue(path, out var pending))
                return pending.Newest.Record.Kind != JournalKind.Delete;
        return _files.Exists(path);
    }

    public async Task<byte[]?> ReadAsync(string path)
    {
        await SettledAsync(path);
        return await _files.ReadAsync(path);
    }

    public async Task<byte[]> ReadAsync(string path, long start, int length)
    {
        await SettledAsync(path);
        return await _files.ReadAsync(path, start, length);
    }

    public async Task<byte[]> ReadFromAsync(string path, long start)
    {
        await SettledAsync(path);
        return await _files.ReadFromAsync(path, start);
    }

    public Task WriteAsync(string path, ReadOnlyMemory<byte> contents, Durability durability = Durability.Now, long version = 0) =>
        durability == Durability.Seen || contents.Length > LongestRecord ? ReplaceAsync(path, contents, durability, version) : Add(JournalKind.Put, path, contents, version, durability);

    public Task AppendAsync(string path, ReadOnlyMemory<byte> contents, Durability durability = Durability.Now) => Add(JournalKind.Append, path, contents, 0, durability);

    public Task DeleteAsync(string path, Durability durability = Durability.Now) => Add(JournalKind.Delete, path, default, 0, durability);

    public async Task<IReadOnlyList<string>> ListAsync(string folder)
    {
        await SettledAsync(path => Path.GetDirectoryName(path) == folder);
        return await _files.ListAsync(folder);
    }

    public ISlate OpenSlate(string path) => _files.OpenSlate(path);

    public void RemoveSlate(string path) => _files.RemoveSlate(path);

    public IDisposable? TryLock(string path) => _files.TryLock(path);

    /// <summary>Returns when everything that was asked for is in the journal and in its place.</summary>
    public Task FlushAsync() => SettledAsync(_ => true);

    /// <summary>Brings everything to the disk in its place and removes the journal.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_gate)
        {
            if (_closed)
                return;
            _closed = true;
            Hurry();
        }
        if (_life is null)
            return;
        try
        {
            Task placed;
            do
            {
                await FlushAsync();
                lock (_gate)
                    placed = _placed;
                await placed;
            }
            while (_pending.Count > 0);
            await _checkpoint;
            if (_written > 0)
                _ended.Add(Segment);
            await EndAsync([.. _ended]);
        }
        catch (IOException)
        {
            // The next silo ends the journal.
        }
        _life.Dispose();
        await _files.DeleteAsync(JournalRecovery.OwnerLock(_folder, _owner), Durability.Seen);
    }

    private Task SettledAsync(string path)
    {
        lock (_gate)
        {
            if (!_pending.TryGetValue(path, out var pending))
                return Task.CompletedTask;
            Hurry();
            return ToldAsync(pending.Newest);
        }
    }

    private async Task SettledAsync(Func<string, bool> which)
    {
        Entry[] settled;
        lock (_gate)
        {
            settled = [.. _pending.Where(path => which(path.Key)).Select(path => path.Value.Newest)];
            if (settled.Length > 0)
                Hurry();
        }
        foreach (var entry in settled)
            await ToldAsync(entry);
    }

    /// <summary>Goes on where the caller is: the writer completes an entry, and neither it nor another thread may run what waits for that.</summary>
    private static async Task ToldAsync(Entry entry) => await entry.Done.Task;

    /// <summary>Past the journal, which is then told that what it holds of the file counts no more.</summary>
    private async Task ReplaceAsync(string path, ReadOnlyMemory<byte> contents, Durability durability, long version)
    {
        // What must be on the disk no later than this may wait in the queue still: the ledger and the parameters that a large state names.
        await (durability == Durability.Now ? FlushAsync() : SettledAsync(path));
        await _files.WriteAsync(path, contents, durability, version);
        await Add(JournalKind.Replaced, path, default, version, durability == Durability.Now ? Durability.Now : Durability.BeforeTheNext);
    }

    private Task Add(JournalKind kind, string path, ReadOnlyMemory<byte> contents, long number, Durability durability)
    {
        if (!path.StartsWith(_root, StringComparison.Ordinal) || path.Length <= _root.Length || path[_root.Length] != Path.DirectorySeparatorChar)
            throw new ArgumentException($"'{path}' does not lie in '{_root}'.", nameof(path));
        lock (_gate)
        {
            if (_failure is not null)
                throw new IOException($"The journal could not be written, so this silo ends: {_failure.Message}", _failure);
            ObjectDisposedException.ThrowIf(_closed, this);
            if (!_pending.TryGetValue(path, out var pending))
                pending = _pending[path] = new Pending { Length = kind == JournalKind.Append ? _files.LengthOf(path) : 0 };
            if (kind == JournalKind.Append)
                number = pending.Length;
            pending.Length = kind == JournalKind.Replaced ? _files.LengthOf(path) : kind == JournalKind.Append ? number + contents.Length : contents.Length;
            _stamp = Math.Max(_stamp + 1, _time.GetTimestamp());
            var entry = new Entry(path, new JournalRecord(kind, _stamp, number, path[(_root.Length + 1)..], contents), durability);
            pending.Newest = entry;
            _queue.Add(entry);
            if (durability == Durability.Now)
            {
                Hurry();
                return ToldAsync(entry);
            }
            if (!_waiting)
            {
                _waiting = true;
                _ = Start(WaitAsync, _writer);
            }
            return durability == Durability.Seen ? ToldAsync(entry) : Task.CompletedTask;
        }
    }

    /// <summary>Writes what waits. Under the gate.</summary>
    private void Hurry()
    {
        if (_queue.Count == 0 || _failure is not null)
            return;
        _urgent = true;
        if (_writing)
            return;
        _writing = true;
        _ = Start(WriteAsync, _writer);
    }

    private async Task WaitAsync()
    {
        await Task.Delay(Patience, _time);
        lock (_gate)
        {
            _waiting = false;
            Hurry();
        }
    }

    private async Task WriteAsync()
    {
        while (true)
        {
            List<Entry> batch;
            lock (_gate)
            {
                if (!_urgent || _failure is not null)
                {
                    _writing = false;
                    return;
                }
                (batch, _queue, _urgent) = (_queue, [], false);
            }
            try
            {
                var bytes = new MemoryStream();
                if (_written == 0)
                    new JournalRecord(JournalKind.Begin, batch[0].Record.Stamp, 0, "", Encoding.UTF8.GetBytes(_files.Boot)).WriteTo(bytes);
                foreach (var entry in batch)
                    entry.Record.WriteTo(bytes);
                await _files.AppendAsync(Segment, bytes.GetBuffer().AsMemory(0, (int)bytes.Length));
                _written += bytes.Length;
                Flushes++;
            }
#pragma warning disable CA1031 // Whatever it is: what was to be written is not to be relied on.
            catch (Exception e)
#pragma warning restore CA1031
            {
                Fail(e, batch);
                return;
            }
            lock (_gate)
            {
                var before = _placed;
                _placed = Start(() => PlaceAsync(before, batch), _placer);
            }
            // One that is not through yet is not hurried: the segment grows meanwhile.
            if (_written > _segmentBytes && _checkpoint.IsCompleted)
                lock (_gate)
                {
                    _ended.Add(Segment);
                    (_segment, _written) = (_segment + 1, 0);
                    var (placed, ended) = (_placed, _ended.ToArray());
                    _checkpoint = Start(() => CheckpointAsync(placed, ended), _placer);
                }
        }
    }

    private async Task PlaceAsync(Task before, List<Entry> batch)
    {
        await before;
        foreach (var entry in batch)
        {
            try
            {
                var (path, record) = (entry.Path, entry.Record);
                if (_failure is not null)
                    throw new IOException("The silo ends.", _failure);
                await (record.Kind switch
                {
                    JournalKind.Put => _files.WriteAsync(path, record.Contents, Durability.Seen, record.Number),
                    JournalKind.Append => _files.WriteAtAsync(path, record.Number, record.Contents),
                    JournalKind.Delete => _files.DeleteAsync(path, entry.Durability == Durability.Now ? Durability.Now : Durability.Seen),
                    _ => Task.CompletedTask,
                });
            }
#pragma warning disable CA1031 // As above: a change that is in the journal and not in its place would come back after the next start of the machine.
            catch (Exception e)
#pragma warning restore CA1031
            {
                Fail(e, [entry]);
                continue;
            }
            lock (_gate)
                if (_pending.TryGetValue(entry.Path, out var pending) && pending.Newest == entry)
                    _pending.Remove(entry.Path);
            entry.Done.TrySetResult();
        }
    }

    private async Task CheckpointAsync(Task placed, string[] ended)
    {
        await placed;
        try
        {
            if (await EndAsync(ended))
                lock (_gate)
                    _ended.RemoveRange(0, ended.Length);
        }
        catch (IOException e)
        {
            Fail(e, []);
        }
    }

    private async Task<bool> EndAsync(string[] segments)
    {
        using var recovery = _files.TryLock(JournalRecovery.RecoveryLock(_folder));
        if (recovery is null || _failure is not null)
            return false;
        await JournalRecovery.RunAsync(_files, _root, _folder, segments);
        return true;
    }

    private void Fail(Exception reason, List<Entry> batch)
    {
        bool first;
        lock (_gate)
        {
            first = _failure is null;
            _failure ??= reason;
            batch = [.. batch, .. _queue];
            _queue = [];
            _writing = false;
        }
        foreach (var entry in batch)
            entry.Done.TrySetException(new IOException($"The journal could not be written, so this silo ends: {reason.Message}", reason));
        if (first)
            _failed(reason);
    }

    private static Task Start(Func<Task> work, TaskScheduler scheduler) => Task.Factory.StartNew(work, CancellationToken.None, TaskCreationOptions.DenyChildAttach, scheduler).Unwrap();

    private sealed class Entry(string path, JournalRecord record, Durability durability)
    {
        public Durability Durability => durability;

        public string Path { get; } = path;

        public JournalRecord Record { get; } = record;

        public TaskCompletionSource Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    /// <summary>A file with changes that are not in their place yet.</summary>
    private sealed class Pending
    {
        public Entry Newest { get; set; } = null!;

        public long Length { get; set; }
    }
}
