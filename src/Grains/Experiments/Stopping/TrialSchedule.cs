using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments.Stopping;

/// <summary>Which trials of an experiment with early stopping train how far: a pure function of the spec and of the results at the looks.</summary>
/// <remarks>
/// Decisions are taken in the order of a clock on which every step of every trial takes equally long, not in the order in which results come
/// in; a result that is early waits for those before it. So ASHA promotes the same trials on any number of workers and through any crash, and
/// after one its state is that of the journal's results, told again in their order.
/// </remarks>
internal sealed class TrialSchedule
{
    private readonly IStoppingRule _rule;
    private readonly PriorityQueue<Leg, (long Finish, int Trial)> _queue = new();
    private readonly Dictionary<int, Leg> _running = [];
    private readonly Dictionary<(int Trial, int Step), double> _results = [];
    private readonly Dictionary<int, double> _ends = [];
    private readonly Dictionary<int, int> _reached = [];
    private readonly SortedDictionary<int, Dictionary<int, double>> _byStep = [];
    private readonly HashSet<int> _ended = [];
    private readonly HashSet<int> _dropped = [];
    private readonly List<int> _again = [];
    private readonly int _steps;
    private int _concurrent;
    private int _trials;
    private int _next;
    private long _now;

    public TrialSchedule(ExperimentSpec spec, int trials)
    {
        (_steps, _concurrent, _trials) = (spec.Training.Steps, spec.MaxConcurrentTrials, trials);
        var stopping = spec.EarlyStopping!;
        _rule = stopping.Name switch
        {
            EarlyStoppingName.Asha when stopping.Mode == HalvingMode.Stopping => new StoppingHalving(stopping, _steps),
            EarlyStoppingName.Asha => new PromotionHalving(stopping, _steps),
            EarlyStoppingName.Hyperband => new Hyperband(stopping, _steps),
            _ => new MedianRule(stopping, _steps),
        };
        _rule.Extend(0, trials);
    }

    /// <summary>Stretches of training that have been decided on, and whose results have not been taken yet.</summary>
    public IReadOnlyDictionary<int, Leg> Running => _running;

    /// <summary>Stretches that trials must be at work on.</summary>
    public IEnumerable<Leg> Awaited => _running.Values.Where(leg => ResultOf(leg) is null);

    /// <summary>Takes what a trial was worth at a look, which may lie ahead of what was decided: another coordinator may have known more. <see cref="Next"/> decides when it counts.</summary>
    /// <param name="trial">Index.</param>
    /// <param name="step">Step of the look.</param>
    /// <param name="loss">The objective, small is good; null when it has none.</param>
    public void Report(int trial, int step, double? loss) => _results.TryAdd((trial, step), Finite(loss));

    /// <summary>Takes the end of a trial that was not stopped by this schedule; null when it failed.</summary>
    public void End(int trial, double? loss) => _ends.TryAdd(trial, Finite(loss));

    /// <summary>A trial was cancelled: it never goes on, wherever it rests.</summary>
    public void Cancel(int trial)
    {
        _dropped.Add(trial);
        End(trial, null);
    }

    /// <summary>A failed trial is to be tried again from where it stood.</summary>
    public void Retry(int trial)
    {
        _dropped.Remove(trial);
        _ends.Remove(trial);
        if (!_running.ContainsKey(trial) && trial < _next)
        {
            _ended.Remove(trial);
            _again.Add(trial);
        }
    }

    /// <summary>From now on there are so many trials, and so many at a time.</summary>
    public void Revise(int trials, int concurrent)
    {
        if (trials > _trials)
            _rule.Extend(_trials, trials);
        (_trials, _concurrent) = (trials, concurrent);
    }

    /// <summary>Takes one more decision; null when the next one needs a result that is not known, or all have been taken.</summary>
    public Decision? Next()
    {
        while (true)
        {
            if (_rule.Stopped() is { } stopped)
            {
                if (_dropped.Contains(stopped) || !_ended.Add(stopped))
                    continue;
                return new Decision(DecisionKind.Stop, stopped, _reached.GetValueOrDefault(stopped));
            }
            if (_running.Count < _concurrent && Free() is { } job)
                return job;
            if (_running.Count == 0)
            {
                // Nothing can become known any more that would let these go on.
                if (_rule.Hopeless() is { } left)
                {
                    if (_dropped.Contains(left) || !_ended.Add(left))
                        continue;
                    return new Decision(DecisionKind.Stop, left, _reached.GetValueOrDefault(left));
                }
                return null;
            }
            if (ResultOf(_queue.Peek()) is not { } result)
                return null;
            var leg = _queue.Dequeue();
            _running.Remove(leg.Trial);
            _now = leg.Finish;
            _reached[leg.Trial] = leg.Until;
            if (!_byStep.TryGetValue(leg.Until, out var level))
                _byStep[leg.Until] = level = [];
            level[leg.Trial] = result.Loss;
            var final = result.Final || leg.Until == _steps;
            if (final)
                _ended.Add(leg.Trial);
            if (_rule.Reported(leg.Trial, leg.Until, result.Loss, final))
                Run(leg.Trial, leg.Until);
        }
    }

    /// <summary>Results of equal worth that a search may learn from: those at the latest look with enough of them (Falkner et al. 2018), and the trials that have none there.</summary>
    /// <param name="enough">How many are enough.</param>
    public (Dictionary<int, double> Known, List<int> Pending) Known(int enough)
    {
        var level = _byStep.Values.LastOrDefault(results => results.Count >= enough) ?? _byStep.Values.FirstOrDefault() ?? [];
        return (new(level), [.. _running.Keys.Where(trial => !level.ContainsKey(trial)).Order()]);
    }

    /// <summary>The look that a stretch leads to, else the end that came before it.</summary>
    private (double Loss, bool Final)? ResultOf(Leg leg) =>
        _results.TryGetValue((leg.Trial, leg.Until), out var loss) ? (loss, false) : _ends.TryGetValue(leg.Trial, out var end) ? (end, true) : null;

    private static double Finite(double? loss) => loss is { } value && double.IsFinite(value) ? value : double.PositiveInfinity;

    private Decision? Free()
    {
        if (_again.Count > 0)
        {
            var again = _again[0];
            _again.RemoveAt(0);
            return Run(again, _reached.TryGetValue(again, out var reached) && _results.ContainsKey((again, reached)) ? reached : _rule.Before(again, reached));
        }
        while (_rule.Promoted() is { } promoted)
            if (!_dropped.Contains(promoted))
                return Run(promoted, _reached[promoted]);
        if (_next >= _trials)
            return null;
        while (_dropped.Contains(_next))
            if (++_next >= _trials)
                return null;
        return Run(_next++, 0);
    }

    private Decision Run(int trial, int from)
    {
        var leg = new Leg(trial, from, _rule.Next(trial, from), _now);
        _running[trial] = leg;
        _queue.Enqueue(leg, (leg.Finish, trial));
        return new Decision(from == 0 ? DecisionKind.Begin : DecisionKind.GoOn, trial, leg.Until);
    }
}

/// <summary>A stretch of a trial's training, in steps, on the clock of the schedule.</summary>
internal sealed record Leg(int Trial, int From, int Until, long Start)
{
    public long Finish => Start + Until - From;
}

internal enum DecisionKind
{
    Begin,
    GoOn,
    Stop,
}

/// <param name="Kind">What.</param>
/// <param name="Trial">Index.</param>
/// <param name="Step">Up to which step it trains; for a stop, after which it ends.</param>
internal sealed record Decision(DecisionKind Kind, int Trial, int Step);

/// <summary>A rule of early stopping. It is asked in the order of the schedule's clock.</summary>
internal interface IStoppingRule
{
    /// <summary>There are trials from an index on, up to another.</summary>
    void Extend(int from, int to);

    /// <summary>The step of a trial's next look, at most its last step.</summary>
    int Next(int trial, int from);

    /// <summary>The look before a step, or 0.</summary>
    int Before(int trial, int step);

    /// <summary>Takes a result; whether the trial goes on at once.</summary>
    /// <param name="trial">Index.</param>
    /// <param name="step">Step of the look.</param>
    /// <param name="loss">The objective, small is good; infinite when it failed.</param>
    /// <param name="final">Whether it has ended.</param>
    bool Reported(int trial, int step, double loss, bool final);

    /// <summary>The next trial that ends here; null when there is none.</summary>
    int? Stopped();

    /// <summary>The next resting trial that may go on; null when there is none.</summary>
    int? Promoted();

    /// <summary>The next resting trial; asked when no other trial will ever end.</summary>
    int? Hopeless();
}
