using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Hosting;
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

    public async Task<IReadOnlyList<ExperimentEvent>> EventsAsync(int? trial, int skip, int take)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(skip);
        var (wanted, found) = (Math.Clamp(take, 0, ExperimentSnapshot.MostTrials), new List<ExperimentEvent>());
        IReadOnlyList<ExperimentEvent>? past = null;
        for (var index = _told - 1; index >= 0 && found.Count < wanted; index--)
        {
            if (!_events.TryGet(index, out var happened))
            {
                // Of a step of a trial that has ended.
                if (trial is { } one && !_events.IsDropped(one))
                    continue;
                happened = (past ??= await PastAsync())[index];
            }
            if ((trial is null || happened.Trial == trial) && skip-- <= 0)
                found.Add(happened);
        }
        return found;
    }

    public async Task<IReadOnlyList<TrialStep>> StepsAsync(int trial)
    {
        if (_trials is null || (uint)trial >= (uint)_trials.Count)
            return [];
        var metrics = _events.IsDropped(trial) ? await RecordedAsync(trial) : new(_events.StepsOf(trial).Where(step => step.Index < _told).ToDictionary(step => step.Step.Step!.Value, step => step.Step.Metrics!));
        var profiles = (await TrialFiles.ReadProfilesAsync(disk, folders.TrialWork(Id, trial))).ToDictionary(profile => profile.Step);
        // A step that was recorded and not yet told of, or never committed, is not here.
        var steps = metrics.Keys.Prepend(0).Where(step => step > 0 || profiles.ContainsKey(0)).ToList();
        return [.. Chart.Thin(steps, ExperimentSnapshot.MostTrials).Select(step => new TrialStep(step, metrics.GetValueOrDefault(step) ?? new Dictionary<string, double>(), profiles.GetValueOrDefault(step)))];
    }

    /// <summary>Metrics of a trial's steps from its ledger, for which the journal of a whole experiment need not be read.</summary>
    private async Task<SortedDictionary<int, IReadOnlyDictionary<string, double>>> RecordedAsync(int trial)
    {
        var files = await new TrialFiles(disk, Background.ThreadPool, folders.TrialWork(Id, trial), State.Epoch).LedgerAsync();
        var committed = _trials!.StepOf(trial);
        return await Task.Run(() => new SortedDictionary<int, IReadOnlyDictionary<string, double>>(
            LedgerChain.Of(files).Records.Where(record => record.Step > 0 && record.Step <= committed).ToDictionary(record => record.Step, record => record.Metrics)));
    }

    /// <summary>All events that were told, from the journal.</summary>
    private async Task<IReadOnlyList<ExperimentEvent>> PastAsync()
    {
        var told = _told;
        var (lines, _) = await _journal!.HistoryAsync();
        return lines.Count >= told ? [.. lines.Select(line => line.Event)] : throw new InvalidDataException($"The journal of experiment '{Id}' has {lines.Count} lines, but {told} events were told. Restore the data folder.");
    }
}
