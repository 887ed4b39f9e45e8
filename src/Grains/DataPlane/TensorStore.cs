using System.Diagnostics.CodeAnalysis;

namespace AdjointDpm.Grains.DataPlane;

/// <summary>Tensors that this silo holds in memory for others to fetch: bounded, named by content.</summary>
/// <remarks>
/// Equal bytes are held once and counted, because trials that share a seed make equal gradients. Past the bound the longest unused go
/// first; whoever still wanted them sees <see cref="TensorTransferException"/> and has the work done again.
/// </remarks>
internal sealed class TensorStore(long capacity)
{
    private readonly Lock _gate = new();
    private readonly Dictionary<string, LinkedListNode<Entry>> _entries = [];
    private readonly LinkedList<Entry> _byUse = [];

    public long Bytes { get; private set; }

    /// <summary>Holds <paramref name="bytes"/>, which must not change any more, until as many <see cref="Release"/> as there were calls.</summary>
    /// <param name="bytes">What is held.</param>
    /// <param name="known">Their SHA-256, when it has been taken already.</param>
    public string Put(byte[] bytes, string? known = null)
    {
        var sha = known ?? TensorReference.HashOf(bytes);
        lock (_gate)
        {
            if (_entries.TryGetValue(sha, out var present))
            {
                present.Value.Holders++;
                Touch(present);
                return sha;
            }
            _entries[sha] = _byUse.AddLast(new Entry(sha, bytes) { Holders = 1 });
            Bytes += bytes.Length;
            // The newest stays even when it alone is over the bound: dropping it would only make its work endless.
            while (Bytes > capacity && _byUse.First is { } oldest && oldest != _byUse.Last)
                Remove(oldest);
        }
        return sha;
    }

    public bool TryGet(string sha, [NotNullWhen(true)] out byte[]? bytes)
    {
        lock (_gate)
        {
            if (_entries.TryGetValue(sha, out var node))
            {
                Touch(node);
                bytes = node.Value.Bytes;
                return true;
            }
        }
        bytes = null;
        return false;
    }

    public void Release(string sha)
    {
        lock (_gate)
        {
            if (_entries.TryGetValue(sha, out var node) && --node.Value.Holders <= 0)
                Remove(node);
        }
    }

    private void Touch(LinkedListNode<Entry> node)
    {
        _byUse.Remove(node);
        _byUse.AddLast(node);
    }

    private void Remove(LinkedListNode<Entry> node)
    {
        _byUse.Remove(node);
        _entries.Remove(node.Value.Sha);
        Bytes -= node.Value.Bytes.Length;
    }

    private sealed class Entry(string sha, byte[] bytes)
    {
        public string Sha { get; } = sha;

        public byte[] Bytes { get; } = bytes;

        public int Holders { get; set; }
    }
}
