namespace AdjointDpm.Grains.DataPlane;

/// <summary>Connections to tensor ports that are left open for the next run of bytes: steps that are short follow each other faster than a handshake pays.</summary>
internal sealed class IdleConnections(TimeProvider time) : IDisposable
{
    /// <summary>Kept for each address, since the other side has so many places only.</summary>
    private const int MostOfOne = 2;

    /// <summary>Shorter than the other side waits.</summary>
    internal static readonly TimeSpan Life = TimeSpan.FromSeconds(3);

    private readonly Lock _gate = new();
    private readonly List<Idle> _idle = [];
    private bool _ended;

    /// <summary>The one to an address that was left last; null when there is none.</summary>
    public Stream? Take(string at)
    {
        lock (_gate)
        {
            Prune();
            if (_idle.FindLast(idle => idle.At == at) is not { } found)
                return null;
            _idle.Remove(found);
            return found.Connection;
        }
    }

    /// <summary>Leaves a connection on which nothing is under way.</summary>
    public void Give(string at, Stream connection)
    {
        lock (_gate)
        {
            Prune();
            if (_ended || _idle.Count(idle => idle.At == at) == MostOfOne)
                connection.Dispose();
            else
                _idle.Add(new Idle(at, connection, time.GetTimestamp()));
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _ended = true;
            Close(_ => true);
        }
    }

    private void Prune() => Close(idle => time.GetElapsedTime(idle.Since) > Life);

    private void Close(Predicate<Idle> which)
    {
        foreach (var idle in _idle.FindAll(which))
            idle.Connection.Dispose();
        _idle.RemoveAll(which);
    }

    private sealed record Idle(string At, Stream Connection, long Since);
}
