namespace AdjointDpm.Grains.Experiments.Stopping;

/// <summary>The steps at which successive halving looks: the first, and each so many times the one before, up to a trial's last.</summary>
internal sealed class Rungs
{
    private readonly List<int> _steps = [];

    /// <param name="first">Steps before the first look.</param>
    /// <param name="factor">Ratio of one to the next.</param>
    /// <param name="last">Steps of a whole trial.</param>
    public Rungs(int first, int factor, int last)
    {
        for (long step = first; step < last; step *= factor)
            _steps.Add((int)step);
        _steps.Add(last);
    }

    public int Count => _steps.Count;

    public int Next(int step) => _steps.Find(rung => rung > step);

    public int Before(int step) => _steps.FindLast(rung => rung < step);

    public int LevelOf(int step) => _steps.IndexOf(step);
}

/// <summary>Results at one look, the best first; of equals the earlier trial.</summary>
internal sealed class RungResults
{
    private readonly List<(double Loss, int Trial)> _results = [];

    public int Count => _results.Count;

    public (double Loss, int Trial) this[int rank] => _results[rank];

    /// <summary>Adds a result, or puts it in the place of the trial's former one.</summary>
    public void Put(int trial, double loss)
    {
        _results.RemoveAll(result => result.Trial == trial);
        var at = _results.BinarySearch((loss, trial));
        _results.Insert(at < 0 ? ~at : at, (loss, trial));
    }
}
