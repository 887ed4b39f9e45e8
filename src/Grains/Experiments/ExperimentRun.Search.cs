using System.Globalization;
using AdjointDpm.Grains.Experiments.Stopping;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Experiments;

/// <summary>Which trials run, with which values and how far.</summary>
internal sealed partial class ExperimentRun
{
    /// <summary>Why trials that were decided to end early are to end, until they have.</summary>
    private readonly Dictionary<int, string> _stops = [];

    /// <summary>What a trial that may begin learns from, as it was when that was decided.</summary>
    private readonly Dictionary<int, (Dictionary<int, double> Known, List<int> Pending)> _begins = [];

    private TrialSchedule? _schedule;

    private bool IsHalted => State.CancelRequested || State.Limit is not null;

    private string HaltReason => State.CancelRequested ? "It was cancelled." : State.Limit ?? "It was cancelled.";

    /// <summary>Puts a line of the journal into effect, one that is read as one that is written: what was decided once is decided again.</summary>
    private void Apply(JournalLine line)
    {
        if (line is { Event.Kind: EventKind.Edited, SpecJson: { } edited })
        {
            (_specJson, _spec) = (edited, ExperimentSpecJson.Deserialize(edited));
            _trials!.Revise(_spec);
            _schedule?.Revise(_trials.Count, _spec.MaxConcurrentTrials);
        }
        _trials!.Apply(line);
        if (_schedule is null)
            return;
        if (line.Event.Trial is { } trial)
            Heed(line, trial);
        Decide();
    }

    private void Heed(JournalLine line, int trial)
    {
        switch (line.Event.Kind)
        {
            case EventKind.TrialStarted:
                _begins.Remove(trial);
                break;
            case EventKind.Looked:
                _schedule!.Report(trial, line.Event.Step!.Value, line.Event.Metrics is { } metrics && metrics.TryGetValue(_spec!.Objective.Metric, out var value) ? Loss(value) : null);
                break;
            case EventKind.TrialEnded when line.Trial is { } ended:
                _stops.Remove(trial);
                if (ended.State == RunState.Cancelled)
                    _schedule!.Cancel(trial);
                else if (ended.State != RunState.Stopped)
                    _schedule!.End(trial, Loss(_trials!.ObjectiveOf(trial)));
                break;
            case EventKind.Retried:
                _schedule!.Retry(trial);
                break;
        }
    }

    private void Decide()
    {
        while (_schedule?.Next() is { } decision)
        {
            if (decision.Kind == DecisionKind.Begin)
                _begins[decision.Trial] = _search!.Learns ? _schedule.Known(_spec!.Parameters.Count + 2) : default;
            else if (decision.Kind == DecisionKind.Stop)
                _stops[decision.Trial] = string.Create(CultureInfo.InvariantCulture, $"{ExperimentSpecJson.NameOf(_spec!.EarlyStopping!.Name)} stopped it after step {decision.Step}: others promise more.");
        }
    }

    private double? Loss(double? objective) => _spec!.Objective.Goal == Goal.Minimize ? objective : -objective;

    private double Objective(double loss) => _spec!.Objective.Goal == Goal.Minimize ? loss : -loss;

    /// <summary>Trials that may begin: the next ones, as far as there are free places and what they learn from is known.</summary>
    private int[] Free() => [.. _trials!.Queued.Take(_spec!.MaxConcurrentTrials - _trials.Running.Count(trial => !State.PausedTrials.Contains(trial)))
        .TakeWhile(trial => _trials.HasValues(trial) || _trials.EndedBefore(_search!.Needs(trial)))];

    /// <summary>Trials that the schedule lets begin, or try again.</summary>
    private int[] Scheduled() => [.. _schedule!.Running.Keys.Where(trial => _trials![trial].State == RunState.Queued).Order()];

    private void Start(int trial)
    {
        var started = time.GetTimestamp();
        Begin(trial);
        instruments.Suggested(ExperimentSpecJson.NameOf(_spec!.Algorithm.Name), time.GetElapsedTime(started));
    }

    private void Begin(int trial)
    {
        if (_trials!.HasValues(trial))
            EmitStarted(trial, _trials[trial].Parameters, _trials[trial].BegunWith);
        else if (!_search!.Learns)
            EmitStarted(trial, _search.ValuesOf(trial));
        else if (_schedule is not null)
            EmitStarted(trial, _search.Suggest(trial, _begins[trial].Known.ToDictionary(pair => pair.Key, pair => Objective(pair.Value)), _begins[trial].Pending.Where(other => other != trial), ValuesOf));
        else
            EmitStarted(trial, _search.Suggest(trial, ValuesOf, _trials.ObjectivesOf), _search.ParentOf(trial, ValuesOf, _trials.ObjectiveOf));
    }

    private IReadOnlyDictionary<string, string> ValuesOf(int trial) => _trials![trial].Parameters;

    /// <summary>Trials that should be at work, or have something to end for.</summary>
    private int[] Awake()
    {
        var awaited = _schedule?.Awaited.Select(leg => leg.Trial).ToHashSet();
        return [.. _trials!.Running.Where(trial => IsHalted || State.CancelledTrials.Contains(trial)
        || (!State.PausedTrials.Contains(trial) && (_schedule is null || _stops.ContainsKey(trial) || awaited!.Contains(trial))))];
    }

    private int? UntilOf(int trial) => _schedule is null ? null : _schedule.Running.TryGetValue(trial, out var leg) ? leg.Until : Math.Max(1, _trials!.LookedAt(trial));

    /// <summary>The parameters to begin with. A parent that failed has none: then the model's own.</summary>
    private TrialOrigin? OriginOf(int trial) => _trials![trial].BegunWith is { } parent && _trials[parent] is { State: RunState.Succeeded, ParametersSha256: { } sha } ? new TrialOrigin(parent, sha) : null;

    /// <summary>A trial that goes on with the parameters of another has noise of its own, so that no generation trains on what those before it saw.</summary>
    private IEnumerable<KeyValuePair<string, string>> SeedOf(int trial)
    {
        var generation = 0;
        for (var at = trial; _trials![at].BegunWith is { } parent; at = parent)
            generation++;
        return generation == 0 || _spec!.Training.FixedNoise == true ? [] : [new("training.seed", ((_spec.Training.Seed + (long)generation) % int.MaxValue).ToString(CultureInfo.InvariantCulture))];
    }

    /// <summary>Whether the target is reached or a budget is spent; if so, from now on for good.</summary>
    private async Task LimitAsync()
    {
        if (IsHalted || Limit() is not { } limit)
            return;
        State.Limit = limit;
        await WriteAsync();
        Emit(EventKind.Limited, limit, durable: true);
    }

    private string? Limit()
    {
        var (budget, objective) = (_spec!.Budget, _spec.Ranked()[0]);
        if (objective.Target is { } target && _trials!.Best() is { } best && _trials.ObjectiveOf(best) is { } value && (objective.Goal == Goal.Minimize ? value <= target : value >= target))
            return string.Create(CultureInfo.InvariantCulture, $"The target is reached: trial {best} has {objective.Metric} = {value:g6}.");
        if (budget?.Failures is { } failures && _trials!.Failed > failures)
            return string.Create(CultureInfo.InvariantCulture, $"The budget is spent: {Plural(_trials.Failed, "trial")} failed, budget.failures is {failures}.");
        if (budget?.Evaluations is { } evaluations && _trials!.Evaluations >= evaluations)
            return string.Create(CultureInfo.InvariantCulture, $"The budget is spent: {_trials.Evaluations} evaluations, budget.evaluations is {evaluations}.");
        return budget?.Hours is { } hours && time.GetUtcNow() - State.SubmittedAt >= TimeSpan.FromHours(hours)
            ? string.Create(CultureInfo.InvariantCulture, $"The budget is spent: budget.hours is {hours}.")
            : null;
    }

    private string Look(int step, double value, int steps) => string.Create(CultureInfo.InvariantCulture,
        $"Looked at after step {step} of {steps}: {(double.IsFinite(value) ? $"{_spec!.Objective.Metric} = {value:g6}" : $"it has no number for '{_spec!.Objective.Metric}', and counts as worse than all")}.");
}
