using System.Numerics;

namespace AdjointDpm.Grains.Trials;

/// <summary>Which gradients of a step may be brought to where they are added: so many that no worker waits without need, and so few that memory does not grow with the number of workers.</summary>
/// <remarks>
/// Over the tree of <see cref="GradientReduction"/> all that is before the first missing shard lies in at most one array for each level; behind it a given
/// number may be gathered. The first missing one may always come, so that whatever waits behind it goes on when it does. Of those that
/// wait it goes first, then one whose neighbour is there to be added to, then the lowest. Not thread-safe; owned by one coordinator.
/// </remarks>
internal sealed class GradientWindow
{
    private readonly bool[] _added;
    private readonly HashSet<int> _underWay = [];
    private readonly List<Place> _waiting = [];
    private readonly int _levels, _ahead;
    private int _first;

    /// <param name="shards">Shards of the step.</param>
    /// <param name="ahead">Arrays behind the first missing shard; null for as many as the others need to end while that one takes long, and four more.</param>
    public GradientWindow(int shards, int? ahead = null)
    {
        _added = new bool[shards];
        _levels = BitOperations.Log2((uint)shards) + (BitOperations.IsPow2(shards) ? 0 : 1);
        _ahead = ahead ?? _levels + 4;
    }

    /// <summary>Arrays that there are at once, at most.</summary>
    public int Most => Math.Min(_added.Length, _levels + 1 + _ahead);

    /// <summary>Arrays that there are now: partial sums, and what is under way.</summary>
    public int Held => Look(_levels, 0).Arrays + _underWay.Count;

    /// <summary>Whether something waits and nothing is under way: only the first missing shard can change that.</summary>
    public bool IsBlocked => _waiting.Count > 0 && _underWay.Count == 0;

    /// <summary>Asks for a shard's gradient to come; one transfer for each shard at once.</summary>
    /// <returns>To be left, whatever becomes of it.</returns>
    public Place Ask(int shard)
    {
        var place = new Place(shard);
        _waiting.Add(place);
        Admit();
        return place;
    }

    /// <summary>The gradient is there, or will not come.</summary>
    /// <param name="place">Its place.</param>
    /// <param name="added">Whether it counts; else the shard may come once more.</param>
    public void Leave(Place place, bool added)
    {
        if (!_waiting.Remove(place))
            _underWay.Remove(place.Shard);
        _added[place.Shard] |= added;
        while (_first < _added.Length && _added[_first])
            _first++;
        Admit();
    }

    private void Admit()
    {
        while (Next() is { } next)
        {
            _waiting.Remove(next);
            // One that has been added already costs nothing: nobody will fetch it.
            if (!_added[next.Shard])
                _underWay.Add(next.Shard);
            next.Admit();
        }
    }

    private Place? Next()
    {
        if (_waiting.Count == 0)
            return null;
        var hasRoom = Ahead < _ahead;
        return _waiting.Where(place => _added[place.Shard] || (!_underWay.Contains(place.Shard) && (place.Shard == _first || hasRoom))).MinBy(Rank);
    }

    private (bool, bool, int) Rank(Place place) => (place.Shard != _first, (place.Shard ^ 1) >= _added.Length || !_added[place.Shard ^ 1], place.Shard);

    /// <summary>Arrays behind the first missing shard. Before it there is one for each bit of its number.</summary>
    private int Ahead => Held - BitOperations.PopCount((uint)_first) - (_underWay.Contains(_first) ? 1 : 0);

    /// <summary>Whether all below a node of the tree is there, and in how many arrays what is there lies.</summary>
    private (bool Complete, int Arrays) Look(int level, int node)
    {
        if (node << level >= _added.Length)
            return (true, 0);
        if (level == 0)
            return (_added[node], _added[node] ? 1 : 0);
        var (left, right) = (Look(level - 1, 2 * node), Look(level - 1, 2 * node + 1));
        return left.Complete && right.Complete ? (true, 1) : (false, left.Arrays + right.Arrays);
    }

    /// <summary>A shard's place in the window.</summary>
    internal sealed class Place(int shard)
    {
        private readonly TaskCompletionSource _turn = new();

        public int Shard => shard;

        /// <summary>Ends when the gradient may come.</summary>
        public Task Turn => _turn.Task;

        public void Admit() => _turn.SetResult();
    }
}
