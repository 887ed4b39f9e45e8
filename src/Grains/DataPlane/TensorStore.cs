using System.Diagnostics.CodeAnalysis;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>Tensors that this silo holds in memory for others to fetch: bounded, named by content.</summary>
/// <remarks>
/// Equal bytes are held once and counted, because trials that share a seed make equal gradients. Past the bound the longest unused go
/// first; whoever still wanted them sees <see cref="TensorTransferException"/> and has the work done again. What is pinned stays, and counts
/// against no bound: its owner has the very array anyway, as long as it offers it.
/// </remarks>
internal sealed class TensorStore(long capacity)
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, Entry> _entries = [];
    private readonly LinkedList<Entry> _byUse = [];

    /// <summary>Bytes that count against the bound.</summary>
    public long Bytes { get; private set; }

    /// <summary>Holds <paramref name="bytes"/>, which must not change any more, until as many <see cref="Release"/> as there were calls, or until there is no room.</summary>
    /// <param name="bytes">What is held.</param>
    /// <param name="known">Their SHA-256, when it has been taken already.</param>
    public string Put(byte[] bytes, string? known = null) => Add(bytes, known, entry => entry.Holders++);

    /// <summary>Holds <paramref name="bytes"/>, which must not change any more, until as many <see cref="Unpin"/> as there were calls.</summary>
    /// <param name="bytes">What is held.</param>
    /// <param name="known">Their SHA-256, when it has been taken already.</param>
    public string Pin(byte[] bytes, string? known = null) => Add(bytes, known, entry => entry.Pins++);

    /// <summary>The bytes, for as long as whoever gets them likes: their memory is never used again.</summary>
    public bool TryGet(string sha, [NotNullWhen(true)] out byte[]? bytes)
    {
        lock (_gate)
        {
            if (_entries.TryGetValue(sha, out var entry))
            {
                Touch(entry);
                entry.IsReadForGood = true;
                bytes = entry.Bytes;
                return true;
            }
        }
        bytes = null;
        return false;
    }

    /// <summary>The bytes, until the lease is disposed: as long as one is not, their memory is not used again.</summary>
    public bool TryRead(string sha, [NotNullWhen(true)] out TensorLease? lease)
    {
        lock (_gate)
        {
            if (_entries.TryGetValue(sha, out var entry))
            {
                Touch(entry);
                entry.Readers++;
                lease = new TensorLease(entry.Bytes, () => Leave(entry));
                return true;
            }
        }
        lease = null;
        return false;
    }

    /// <summary>Length of the bytes; null when they are not held.</summary>
    public int? LengthOf(string sha)
    {
        lock (_gate)
            return _entries.TryGetValue(sha, out var entry) ? entry.Bytes.Length : null;
    }

    public void Release(string sha) => Change(sha, entry => entry.Holders = Math.Max(0, entry.Holders - 1));

    public void Unpin(string sha) => Change(sha, entry => entry.Pins--);

    /// <summary>Unpins what the caller made.</summary>
    /// <param name="sha">What was pinned.</param>
    /// <param name="own">The caller's array of these bytes.</param>
    /// <returns>Whether nobody reads that very array through this store any more, nor ever will.</returns>
    public bool Reclaim(string sha, byte[] own)
    {
        lock (_gate)
        {
            // Where others had pinned equal bytes before, it is theirs that are read.
            var isFree = _entries.TryGetValue(sha, out var entry) && (entry.Bytes != own || entry is { Pins: 1, Holders: 0, Readers: 0, IsReadForGood: false });
            Unpin(sha);
            return isFree;
        }
    }

    private void Leave(Entry entry)
    {
        lock (_gate)
            entry.Readers--;
    }

    private string Add(byte[] bytes, string? known, Action<Entry> hold)
    {
        var sha = known ?? TensorReference.HashOf(bytes);
        lock (_gate)
        {
            if (!_entries.TryGetValue(sha, out var entry))
                entry = _entries[sha] = new Entry(sha, bytes);
            hold(entry);
            Place(entry);
            Touch(entry);
            // The newest stays even when it alone is over the bound: dropping it would only make its work endless.
            while (Bytes > capacity && _byUse.First is { } oldest && oldest != _byUse.Last)
            {
                oldest.Value.Holders = 0;
                Place(oldest.Value);
            }
        }
        return sha;
    }

    private void Change(string sha, Action<Entry> change)
    {
        lock (_gate)
        {
            if (!_entries.TryGetValue(sha, out var entry))
                return;
            change(entry);
            Place(entry);
        }
    }

    /// <summary>What only holders want may go and counts; what nobody wants is gone.</summary>
    private void Place(Entry entry)
    {
        var mayGo = entry is { Pins: 0, Holders: > 0 };
        if (mayGo && entry.Use.List is null)
        {
            _byUse.AddLast(entry.Use);
            Bytes += entry.Bytes.Length;
        }
        else if (!mayGo && entry.Use.List is not null)
        {
            _byUse.Remove(entry.Use);
            Bytes -= entry.Bytes.Length;
        }
        if (entry is { Pins: 0, Holders: 0 })
            _entries.Remove(entry.Sha);
    }

    private void Touch(Entry entry)
    {
        if (entry.Use.List is null)
            return;
        _byUse.Remove(entry.Use);
        _byUse.AddLast(entry.Use);
    }

    private sealed class Entry
    {
        public Entry(string sha, byte[] bytes) => (Sha, Bytes, Use) = (sha, bytes, new(this));

        public string Sha { get; }

        public byte[] Bytes { get; }

        /// <summary>Its place among those that may go.</summary>
        public LinkedListNode<Entry> Use { get; }

        public int Holders { get; set; }

        public int Pins { get; set; }

        /// <summary>Leases that are not disposed.</summary>
        public int Readers { get; set; }

        /// <summary>Whether somebody has the array without a lease.</summary>
        public bool IsReadForGood { get; set; }
    }
}

/// <summary>Bytes that a <see cref="TensorStore"/> holds, in use.</summary>
/// <param name="Bytes">What they are; not to be changed, nor read once this is disposed.</param>
/// <param name="Leave">Called once, by <see cref="Dispose"/>.</param>
internal sealed record TensorLease(byte[] Bytes, Action Leave) : IDisposable
{
    private int _left;

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _left, 1) == 0)
            Leave();
    }
}
