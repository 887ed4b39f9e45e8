using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments.Stopping;

/// <summary>A trial ends when its best value so far is worse than the median of what the trials that ran to their end had at the same step.</summary>
/// <remarks>As Optuna's <c>MedianPruner</c>; looks lie every <see cref="EarlyStoppingSpec.MinSteps"/> steps.</remarks>
internal sealed class MedianRule(EarlyStoppingSpec spec, int steps) : IStoppingRule
{
    private readonly Dictionary<int, SortedDictionary<int, double>> _trials = [];
    private readonly HashSet<int> _whole = [];
    private readonly Queue<int> _stopped = new();

    public void Extend(int from, int to)
    {
    }

    public int Next(int trial, int from) => (int)Math.Min(steps, (from / spec.MinSteps + 1L) * spec.MinSteps);

    public int Before(int trial, int step) => (step - 1) / spec.MinSteps * spec.MinSteps;

    public bool Reported(int trial, int step, double loss, bool final)
    {
        if (!_trials.TryGetValue(trial, out var own))
            _trials[trial] = own = [];
        own[step] = loss;
        if (final)
        {
            if (double.IsFinite(loss))
                _whole.Add(trial);
            return false;
        }
        var others = _whole.Where(other => _trials[other].ContainsKey(step)).Select(other => _trials[other][step]).Order().ToArray();
        var middle = others.Length / 2;
        var stops = !double.IsFinite(loss)
            || (_whole.Count >= spec.MinTrials && others.Length > 0 && own.Values.Min() > (others.Length % 2 == 1 ? others[middle] : 0.5 * (others[middle - 1] + others[middle])));
        if (stops)
            _stopped.Enqueue(trial);
        return !stops;
    }

    public int? Stopped() => _stopped.TryDequeue(out var trial) ? trial : null;

    public int? Promoted() => null;

    public int? Hopeless() => null;
}
