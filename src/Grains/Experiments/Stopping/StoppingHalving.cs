using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments.Stopping;

/// <summary>ASHA without resting: a trial goes on at once when it is among the first 1/η of those that were looked at there so far, itself among them, else it ends.</summary>
/// <remarks>As Optuna's <c>SuccessiveHalvingPruner</c>; of fewer than η the best goes on.</remarks>
internal sealed class StoppingHalving(EarlyStoppingSpec spec, int steps) : IStoppingRule
{
    private readonly Rungs _rungs = new(spec.MinSteps, spec.ReductionFactor, steps);
    private readonly Dictionary<int, RungResults> _results = [];
    private readonly Queue<int> _stopped = new();

    public void Extend(int from, int to)
    {
    }

    public int Next(int trial, int from) => _rungs.Next(from);

    public int Before(int trial, int step) => _rungs.Before(step);

    public bool Reported(int trial, int step, double loss, bool final)
    {
        if (!_results.TryGetValue(step, out var results))
            _results[step] = results = new();
        results.Put(trial, loss);
        if (final)
            return false;
        if (double.IsFinite(loss) && loss <= results[Math.Max(0, results.Count / spec.ReductionFactor - 1)].Loss)
            return true;
        _stopped.Enqueue(trial);
        return false;
    }

    public int? Stopped() => _stopped.TryDequeue(out var trial) ? trial : null;

    public int? Promoted() => null;

    public int? Hopeless() => null;
}
