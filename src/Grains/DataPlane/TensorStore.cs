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

    public bool TryGet(string sha, [NotNullWhen(true)] out byte[]? bytes)
    {
        lock (_gate)
        {
            if (_entries.TryGetValue(sha, out var entry))
            {
                Touch(entry);
                bytes = entry.Bytes;
                return true;
            }
        }
        bytes = null;
        return false;
    }

    public void Release(string sha) => Change(sha, entry => entry.Holders = Math.Max(0, entry.Holders - 1));

    public void Unpin(string sha) => Change(sha, entry => entry.Pins--);

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
    }
}
