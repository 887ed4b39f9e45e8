namespace AdjointDpm.Grains.Workers;

/// <summary>Memory of one device that several workers compute on: one begins when what it needs fits beside what the others hold and need.</summary>
/// <remarks>
/// They begin in the order in which they ask, so that much is not kept waiting by little. Work of which nobody knows what it needs has the device to
/// itself; work that needs more than there is has it too, once the others have let go of the models that they keep. Waiting blocks the worker's thread.
/// </remarks>
/// <param name="budget">Bytes for weights and work of all workers together.</param>
internal sealed class DeviceMemory(long budget)
{
    private readonly object _gate = new();
    private readonly Dictionary<IDeviceMemoryHolder, Holding> _holdings = [];
    private readonly LinkedList<IDeviceMemoryHolder> _line = [];

    /// <summary>Waits until there is room for work.</summary>
    /// <param name="holder">Worker that asks, on its own thread.</param>
    /// <param name="above">Bytes that the work needs above what the worker holds now; null when nobody knows. Asked again after the worker has let go.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>To be disposed when the work has ended.</returns>
    /// <exception cref="OperationCanceledException">The wait was ended.</exception>
    public IDisposable Enter(IDeviceMemoryHolder holder, Func<long?> above, CancellationToken cancellationToken)
    {
        using var woken = cancellationToken.Register(Wake);
        lock (_gate)
        {
            var place = _line.AddLast(holder);
            try
            {
                // Asked while it was on its way here.
                if (_holdings.TryGetValue(holder, out var known) && known.MustLetGo)
                    LetGo(holder);
                var needed = Needed(holder, above);
                while (!cancellationToken.IsCancellationRequested && !MayBegin(place, needed))
                {
                    Monitor.Wait(_gate);
                    if (!_holdings[holder].MustLetGo)
                        continue;
                    LetGo(holder);
                    needed = Needed(holder, above);
                }
                cancellationToken.ThrowIfCancellationRequested();
                _holdings[holder] = new Holding(holder.HeldBytes, needed, IsRunning: true);
            }
            finally
            {
                _line.Remove(place);
                Monitor.PulseAll(_gate);
            }
        }
        return new Entered(this, holder);
    }

    /// <summary>Told by a worker that waits for work, on its own thread: whether others need what it keeps. It has let go then.</summary>
    public void LetGoIfAsked(IDeviceMemoryHolder holder)
    {
        lock (_gate)
        {
            if (_holdings.TryGetValue(holder, out var holding) && holding.MustLetGo)
                LetGo(holder);
        }
    }

    private bool MayBegin(LinkedListNode<IDeviceMemoryHolder> place, long? needed)
    {
        if (place.Previous is not null)
            return false;
        var others = _holdings.Where(holding => holding.Key != place.Value).ToList();
        var running = others.FindAll(other => other.Value.IsRunning);
        if (needed is { } bytes && running.TrueForAll(other => other.Value.Above is not null) && place.Value.HeldBytes + bytes + others.Sum(other => other.Value.Bytes) <= budget)
            return true;
        return running.Count == 0 && !AskForRoom(others.FindAll(other => other.Value.Held > 0));
    }

    /// <returns>Whether there is anybody to wait for.</returns>
    private bool AskForRoom(List<KeyValuePair<IDeviceMemoryHolder, Holding>> keepers)
    {
        foreach (var (keeper, holding) in keepers)
        {
            _holdings[keeper] = holding with { MustLetGo = true };
            keeper.Wake();
        }
        if (keepers.Count > 0)
            Monitor.PulseAll(_gate);
        return keepers.Count > 0;
    }

    private long? Needed(IDeviceMemoryHolder holder, Func<long?> above)
    {
        var needed = above();
        _holdings[holder] = new Holding(holder.HeldBytes, needed, IsRunning: false);
        return needed;
    }

    private void LetGo(IDeviceMemoryHolder holder)
    {
        holder.LetGo();
        Rest(holder);
    }

    private void Leave(IDeviceMemoryHolder holder)
    {
        lock (_gate)
            Rest(holder);
    }

    private void Rest(IDeviceMemoryHolder holder)
    {
        _holdings[holder] = new Holding(holder.HeldBytes, 0, IsRunning: false);
        Monitor.PulseAll(_gate);
    }

    private void Wake()
    {
        lock (_gate)
            Monitor.PulseAll(_gate);
    }

    /// <param name="Held">Bytes that stay between pieces of work: models.</param>
    /// <param name="Above">Bytes that its work needs above those; null when nobody knows.</param>
    /// <param name="IsRunning">Whether it computes.</param>
    private readonly record struct Holding(long Held, long? Above, bool IsRunning)
    {
        /// <summary>Others wait for what it keeps.</summary>
        public bool MustLetGo { get; init; }

        public long Bytes => Held + (IsRunning ? Above ?? 0 : 0);
    }

    private sealed class Entered(DeviceMemory memory, IDeviceMemoryHolder holder) : IDisposable
    {
        public void Dispose() => memory.Leave(holder);
    }
}

/// <summary>A worker that keeps models on a device which it shares.</summary>
internal interface IDeviceMemoryHolder
{
    /// <summary>Bytes of the models that it keeps. Asked on its own thread, and by others while it waits.</summary>
    long HeldBytes { get; }

    /// <summary>Lets go of them. Called on its own thread, between pieces of work.</summary>
    void LetGo();

    /// <summary>Makes it ask whether it must let go, if it waits for work.</summary>
    void Wake();
}
