namespace AdjointDpm.Grains.Workers;

/// <summary>On whose account work is done, and how urgently.</summary>
/// <param name="Name">Who shares devices with others: an experiment.</param>
/// <param name="Priority">Work of a higher one goes first.</param>
/// <param name="Weight">Device time that it gets beside others of its priority, in proportion to theirs; above 0.</param>
internal readonly record struct WorkShare(string Name, int Priority = 0, double Weight = 1);

/// <summary>Work that waits for one device: the highest priority first, then whoever had least of the device by its weight, then the oldest.</summary>
/// <remarks>
/// Start-time fair queueing (Goyal, Vin and Cheng, 1996) with device time for packet length: every account has a virtual time, which grows by
/// the time it used over its weight; an account that comes back after a pause begins where the others are, so that it can save nothing up.
/// Every priority has a virtual time of its own: what the more urgent use is no head start for those among the less urgent who were there before.
/// No clock and no lock: the caller has both.
/// </remarks>
internal sealed class FairQueue<T>
{
    private readonly List<(WorkShare Share, T Item)> _waiting = [];
    private readonly Dictionary<(int Priority, string Name), double> _used = [];
    private readonly Dictionary<int, double> _now = [];

    public int Count => _waiting.Count;

    public void Add(in WorkShare share, T item)
    {
        var account = AccountOf(share);
        if (!Waits(account))
            _used[account] = Math.Max(_used.GetValueOrDefault(account), _now.GetValueOrDefault(share.Priority));
        _waiting.Add((share, item));
    }

    public bool TryTake(out WorkShare share, out T item)
    {
        (share, item) = (default, default!);
        if (_waiting.Count == 0)
            return false;
        var best = 0;
        for (var i = 1; i < _waiting.Count; i++)
            if (IsBefore(_waiting[i].Share, _waiting[best].Share))
                best = i;
        (share, item) = _waiting[best];
        _waiting.RemoveAt(best);
        _now[share.Priority] = Math.Max(_now.GetValueOrDefault(share.Priority), _used[AccountOf(share)]);
        return true;
    }

    /// <summary>What was taken has ended.</summary>
    /// <param name="share">On whose account.</param>
    /// <param name="time">How long it had the device.</param>
    public void Used(in WorkShare share, TimeSpan time)
    {
        var account = AccountOf(share);
        _used[account] = _used.GetValueOrDefault(account) + time.TotalSeconds / share.Weight;
        // An account behind the others would begin where they are: nothing need be known of it.
        foreach (var other in _used.Where(used => used.Value <= _now.GetValueOrDefault(used.Key.Priority) && !Waits(used.Key)).Select(used => used.Key).ToArray())
            _used.Remove(other);
    }

    private bool Waits((int Priority, string Name) account) => _waiting.Exists(waiting => AccountOf(waiting.Share) == account);

    private bool IsBefore(in WorkShare a, in WorkShare b) =>
        a.Priority != b.Priority ? a.Priority > b.Priority : _used[AccountOf(a)] < _used[AccountOf(b)];

    private static (int Priority, string Name) AccountOf(in WorkShare share) => (share.Priority, share.Name);
}
