using AdjointDpm.Grains.DataPlane;

namespace AdjointDpm.Grains.Workers;

/// <summary>Versions of parameters that a worker has fetched: of each trial the newest, since every shard of a step uses it, as long as it is used.</summary>
internal sealed class HeldParameters(TensorTransfer transfer, TimeProvider time)
{
    private readonly Dictionary<(string Trial, bool Before), Held> _held = [];

    public int Count => _held.Count;

    /// <summary>Parameters of a trial in the wanted version; null when none is wanted.</summary>
    /// <param name="trial">Trial.</param>
    /// <param name="before">Whether they are those before training, which are wanted beside the others.</param>
    /// <param name="reference">Version.</param>
    /// <param name="stopping">Ends the transfer.</param>
    /// <param name="cancellationToken">Ends waiting for it.</param>
    public async Task<ParameterVersion?> FetchAsync(string trial, bool before, TensorReference? reference, CancellationToken stopping, CancellationToken cancellationToken)
    {
        if (reference is null)
            return null;
        // The transfer is kept, not its result: shards that start together share it. A failed one is tried anew.
        if (!_held.TryGetValue((trial, before), out var held) || held.Sha != reference.Sha256 || held.Bytes.IsFaulted || held.Bytes.IsCanceled)
            held = _held[(trial, before)] = new Held(reference.Sha256, transfer.FetchAsync(reference, stopping));
        held.Used = time.GetUtcNow();
        return new ParameterVersion(held.Sha, await held.Bytes.WaitAsync(cancellationToken));
    }

    /// <summary>Lets go of what has not been asked for during a time, unless its trial has work here still.</summary>
    public void Sweep(TimeSpan old, Func<string, bool> hasWork)
    {
        var now = time.GetUtcNow();
        foreach (var (key, held) in _held.ToArray())
        {
            if (hasWork(key.Trial))
                held.Used = now;
            else if (now - held.Used > old)
                _held.Remove(key);
        }
    }

    private sealed class Held(string sha, Task<byte[]> bytes)
    {
        public string Sha { get; } = sha;

        public Task<byte[]> Bytes { get; } = bytes;

        public DateTimeOffset Used { get; set; }
    }
}
