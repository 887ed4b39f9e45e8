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
        var (events, of) = (new List<ExperimentEvent>(), trial is null ? null : _ofTrial.GetValueOrDefault(trial.Value) ?? []);
        var last = (of is null ? _told : Told(of)) - skip;
        for (var i = last - 1; i >= 0 && events.Count < Math.Clamp(take, 0, ExperimentSnapshot.MostTrials); i--)
            events.Add(_events[of is null ? i : of[i]]);
        return events;
    }

    public async Task<IReadOnlyList<TrialStep>> StepsAsync(int trial)
    {
        if (_trials is null || (uint)trial >= (uint)_trials.Count)
            return [];
        var metrics = new SortedDictionary<int, IReadOnlyDictionary<string, double>>();
        var of = _ofTrial.GetValueOrDefault(trial) ?? [];
        foreach (var i in of.Take(Told(of)))
            if (_events[i] is { Kind: EventKind.StepCommitted, Step: { } step, Metrics: { } told })
                metrics[step] = told;
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

    /// <summary>How many of a trial's events are told: those up to the newest that is.</summary>
    private int Told(List<int> of)
    {
        var count = of.Count;
        while (count > 0 && of[count - 1] >= _told)
            count--;
        return count;
    }

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

    /// <summary>Places of each trial's events.</summary>
    private readonly Dictionary<int, List<int>> _ofTrial = [];

    private void Add(ExperimentEvent happened)
    {
        if (happened.Trial is { } trial)
        {
            if (!_ofTrial.TryGetValue(trial, out var of))
                _ofTrial[trial] = of = [];
            of.Add(_events.Count);
        }
        _events.Add(happened);
    }
}
