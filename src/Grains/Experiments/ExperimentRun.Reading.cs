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
        var profiles = await ProfilesOf(trial).ReadAsync();
        var pictures = (await StepPictures.ListAsync(disk, folders.TrialWork(Id, trial))).DistinctBy(picture => picture.Step).ToDictionary(picture => picture.Step, picture => picture.Sha256);
        // A step that was recorded and not yet told of, or never committed, is not here.
        var steps = metrics.Keys.Prepend(0).Where(step => step > 0 || profiles.ContainsKey(0) || pictures.ContainsKey(0)).ToList();
        var shown = Chart.Thin(steps, ExperimentSnapshot.MostTrials);
        return [.. shown.Select((step, i) => new TrialStep(step, metrics.GetValueOrDefault(step) ?? NoMetrics, Shown(step, profiles.GetValueOrDefault(step), pictures.GetValueOrDefault(step), isNew: i >= shown.Count - WithShards)))];
    }

    /// <summary>The same, or less when the disk does not give what was observed: no experiment stays unfinished for that.</summary>
    private async Task<IReadOnlyList<TrialStep>> ObservedAsync(int trial)
    {
        try
        {
            return await StepsAsync(trial);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            LogNotObserved(logger, Id, trial, e.Message);
            return [];
        }
    }

    /// <summary>Shard by shard nobody looks at more than the newest steps.</summary>
    private static StepProfile? Shown(int step, StepProfile? profile, string? picture, bool isNew) => profile is null && picture is null ? null
        : (profile ?? new StepProfile { Step = step }) with { Shards = isNew ? profile?.Shards : null, Picture = picture };

    private ProfileLog ProfilesOf(int trial)
    {
        var at = _profiles.FindIndex(entry => entry.Trial == trial);
        var log = at < 0 ? new ProfileLog(disk, folders.TrialWork(Id, trial)) : _profiles[at].Log;
        if (at >= 0)
            _profiles.RemoveAt(at);
        _profiles.Add((trial, log));
        if (_profiles.Count > MostProfiles)
            _profiles.RemoveAt(0);
        return log;
    }

    private const int WithShards = 8;

    /// <summary>Trials that people look at, at the same time.</summary>
    private const int MostProfiles = 4;

    private static readonly Dictionary<string, double> NoMetrics = [];

    /// <summary>Profiles that were read, those asked for last at the end.</summary>
    private readonly List<(int Trial, ProfileLog Log)> _profiles = [];

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
