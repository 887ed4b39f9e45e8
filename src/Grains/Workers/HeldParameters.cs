using AdjointDpm.Grains.DataPlane;

namespace AdjointDpm.Grains.Workers;

/// <summary>Versions of parameters that a worker has fetched: of each trial the newest, since every shard of a step uses it, as long as it is used.</summary>
/// <remarks>
/// The next version is received where the one before the last lay, when that came over the network and all work that used it has said that it is done: memory that is new costs more than the transfer.
/// A version that is in this process anyway is let go of with the last work that uses it, so that its coordinator, too, can use its memory again.
/// </remarks>
internal sealed class HeldParameters(TensorTransfer transfer, TimeProvider time)
{
    /// <summary>Longest memory that is kept for the next version.</summary>
    private const int MostSpare = 256 << 20;

    private readonly Dictionary<(string Trial, bool Before), Held> _held = [];

    public int Count => _held.Count;

    /// <summary>Parameters of a trial in the wanted version; null when none is wanted.</summary>
    /// <param name="trial">Trial.</param>
    /// <param name="before">Whether they are those before training, which are wanted beside the others.</param>
    /// <param name="reference">Version.</param>
    /// <param name="stopping">Ends the transfer.</param>
    /// <param name="cancellationToken">Ends waiting for it.</param>
    public async Task<UsedParameters?> FetchAsync(string trial, bool before, TensorReference? reference, CancellationToken stopping, CancellationToken cancellationToken)
    {
        if (reference is null)
            return null;
        // The transfer is kept, not its result: shards that start together share it. A failed one is tried anew.
        var key = (trial, before);
        if (!_held.TryGetValue(key, out var held) || held.Sha != reference.Sha256 || held.Fetched.IsFaulted || held.Fetched.IsCanceled)
        {
            var former = held;
            held = _held[key] = new Held(reference.Sha256, transfer.FetchAsync(reference, former?.TakeSpare(), stopping));
            former?.GoesBefore(held);
        }
        held.Used = time.GetUtcNow();
        // From here on: by the time this goes on, another version may be wanted.
        held.Users++;
        try
        {
            var fetched = await held.Fetched.WaitAsync(cancellationToken);
            return new UsedParameters(new ParameterVersion(held.Sha, fetched.Bytes), () => Leave(key, held));
        }
        catch
        {
            Leave(key, held);
            throw;
        }
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

    private void Leave((string Trial, bool Before) key, Held held)
    {
        if (held.Leave() && _held.TryGetValue(key, out var newest) && newest == held)
            _held.Remove(key);
    }

    private sealed class Held(string sha, Task<FetchedTensor> fetched)
    {
        private Held? _next;
        private byte[]? _spare;

        public string Sha { get; } = sha;

        public Task<FetchedTensor> Fetched { get; } = fetched;

        public DateTimeOffset Used { get; set; }

        /// <summary>Work that waits for it or reads it, and work that did not end well: who knows what reads on.</summary>
        public int Users { get; set; }

        public byte[]? TakeSpare()
        {
            var spare = _spare;
            _spare = null;
            return spare;
        }

        public void GoesBefore(Held next)
        {
            _next = next;
            PassOn();
        }

        /// <returns>Whether it may not be read any more.</returns>
        public bool Leave()
        {
            Users--;
            PassOn();
            if (Users > 0 || !Fetched.IsCompletedSuccessfully || Fetched.Result.Lease is not { } lease)
                return false;
            lease.Dispose();
            return true;
        }

        /// <summary>Nobody asks for it or reads it any more: its memory is for the version after the one that came next.</summary>
        private void PassOn()
        {
            if (_next is null || Users > 0 || !Fetched.IsCompletedSuccessfully || Fetched.Result is not { IsOwn: true, Bytes: { Length: <= MostSpare } bytes })
                return;
            var newest = _next;
            while (newest._next is { } next)
                newest = next;
            newest._spare ??= bytes;
        }
    }
}

/// <summary>Parameters in use.</summary>
/// <param name="Version">What they are.</param>
/// <param name="Leave">To be called once, when nothing reads them any more; not at all when that is not sure.</param>
internal sealed record UsedParameters(ParameterVersion Version, Action Leave);
