namespace AdjointDpm.Grains.Trials.Ranges;

/// <summary>Silos that can own ranges: those that did not answer for one get none for a while, by when membership will say whether they are gone.</summary>
internal sealed class RangeOwners(TimeProvider time)
{
    private static readonly TimeSpan Rest = TimeSpan.FromSeconds(30);

    private readonly Dictionary<string, DateTimeOffset> _resting = [];

    public void Lost(string silo) => _resting[silo] = time.GetUtcNow() + Rest;

    /// <summary>Those of them that have not been lost of late; all when there is no other.</summary>
    /// <exception cref="NoOwnersException">There are none.</exception>
    public IReadOnlyList<string> Among(IReadOnlyList<string> silos)
    {
        if (silos.Count == 0)
            throw new NoOwnersException();
        var now = time.GetUtcNow();
        var ready = silos.Where(silo => !(_resting.TryGetValue(silo, out var until) && until > now)).ToList();
        return ready.Count > 0 ? ready : silos;
    }
}

/// <summary>No silo is there that could own a range: as with shards, one is waited for.</summary>
internal sealed class NoOwnersException() : Exception("No silo with a worker of the trial's kind is there to own its parameters.");
