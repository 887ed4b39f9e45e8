using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments.Stopping;

/// <summary>ASHA as published: a free place goes to the best trial that rests among the first 1/η of its look, from the last look down; else to a new trial.</summary>
/// <remarks>Li et al. 2020, "A system for massively parallel hyperparameter tuning", algorithm 2.</remarks>
internal sealed class PromotionHalving(EarlyStoppingSpec spec, int steps) : IStoppingRule
{
    private readonly Rungs _rungs = new(spec.MinSteps, spec.ReductionFactor, steps);
    private readonly Dictionary<int, RungResults> _results = [];
    private readonly HashSet<(int Level, int Trial)> _promoted = [];
    private readonly SortedSet<int> _resting = [];

    public void Extend(int from, int to)
    {
    }

    public int Next(int trial, int from) => _rungs.Next(from);

    public int Before(int trial, int step) => _rungs.Before(step);

    public bool Reported(int trial, int step, double loss, bool final)
    {
        var level = _rungs.LevelOf(step);
        if (!_results.TryGetValue(level, out var results))
            _results[level] = results = new();
        results.Put(trial, loss);
        _promoted.Remove((level, trial));
        if (final)
            _promoted.Add((level, trial));
        else
            _resting.Add(trial);
        return false;
    }

    public int? Stopped() => null;

    public int? Promoted()
    {
        for (var level = _rungs.Count - 2; level >= 0; level--)
        {
            if (!_results.TryGetValue(level, out var results))
                continue;
            for (var rank = 0; rank < results.Count / spec.ReductionFactor; rank++)
            {
                if (!double.IsFinite(results[rank].Loss) || !_promoted.Add((level, results[rank].Trial)))
                    continue;
                _resting.Remove(results[rank].Trial);
                return results[rank].Trial;
            }
        }
        return null;
    }

    public int? Hopeless()
    {
        if (_resting.Count == 0)
            return null;
        var first = _resting.Min;
        _resting.Remove(first);
        for (var level = 0; level < _rungs.Count; level++)
            _promoted.Add((level, first));
        return first;
    }
}
