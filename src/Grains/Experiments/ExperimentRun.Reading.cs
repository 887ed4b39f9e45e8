using AdjointDpm.Grains.Pages;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Experiments;

/// <summary>What people look at, beside the snapshot.</summary>
internal sealed partial class ExperimentRun
{
    public TrialPage? Find(TrialQuery query)
    {
        if (_trials is null)
            return null;
        var (page, matched) = query.Of(Enumerable.Range(0, _trials.Count).Select(trial => _trials[trial]));
        return new TrialPage([.. page.Select(trial => _trials.WithLosses(trial.Index, Math.Max(page.Count, 100)))], matched);
    }

    public IReadOnlyList<ExperimentEvent> Events(int? trial, int skip, int take)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(skip);
        var events = _events.Take(_told).Reverse();
        return [.. (trial is null ? events : events.Where(happened => happened.Trial == trial)).Skip(skip).Take(Math.Clamp(take, 0, ExperimentSnapshot.MostTrials))];
    }

    public async Task<IReadOnlyList<TrialStep>> StepsAsync(int trial)
    {
        if (_trials is null || (uint)trial >= (uint)_trials.Count)
            return [];
        var metrics = new SortedDictionary<int, IReadOnlyDictionary<string, double>>();
        foreach (var happened in _events.Take(_told))
            if (happened is { Kind: EventKind.StepCommitted, Step: { } step, Metrics: { } told } && happened.Trial == trial)
                metrics[step] = told;
        var profiles = (await TrialFiles.ReadProfilesAsync(disk, folders.TrialWork(Id, trial))).ToDictionary(profile => profile.Step);
        // A step that was recorded and not yet told of, or never committed, is not here.
        var steps = metrics.Keys.Prepend(0).Where(step => step > 0 || profiles.ContainsKey(0)).ToList();
        return [.. Chart.Thin(steps, ExperimentSnapshot.MostTrials).Select(step => new TrialStep(step, metrics.GetValueOrDefault(step) ?? new Dictionary<string, double>(), profiles.GetValueOrDefault(step)))];
    }
}
