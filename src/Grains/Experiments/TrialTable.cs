using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments.Searching;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Experiments;

/// <summary>The trials of an experiment as the experiment knows them: built from the journal, kept up by reports.</summary>
internal sealed class TrialTable
{
    /// <summary>Losses that a snapshot carries of one trial.</summary>
    private const int MostLosses = 2000;

    private Row?[] _rows;
    private readonly int[] _counts = new int[Enum.GetValues<RunState>().Length];
    private readonly SortedSet<int> _running = [];
    private readonly Search _search;
    private ExperimentSpec _spec;
    private int _firstQueued;
    private int _allEnded;

    /// <summary>Index of the best trial, or null for none; not known after what may have changed it.</summary>
    private (int? Trial, bool IsKnown) _best;

    public TrialTable(ExperimentSpec spec, Search search)
    {
        (_spec, _search) = (spec, search);
        // A row is made when something happens in its trial: a grid of 100,000 costs nothing while it waits.
        _rows = new Row[search.Trials];
        _counts[(int)RunState.Queued] = _rows.Length;
    }

    public int Count => _rows.Length;

    public int Ended => _counts[(int)RunState.Succeeded] + Failed + _counts[(int)RunState.Cancelled] + _counts[(int)RunState.Stopped];

    /// <summary>Number of trials by state, also of those that none is in.</summary>
    public IReadOnlyDictionary<string, int> Counts => Enum.GetValues<RunState>().ToDictionary(state => state.ToString().ToLowerInvariant(), state => _counts[(int)state]);

    public int Failed => _counts[(int)RunState.Failed];

    public int Succeeded => _counts[(int)RunState.Succeeded];

    public TrialSnapshot this[int trial] => _rows[trial]?.Snapshot ?? Untouched(trial);

    /// <summary>Trials under way, by index.</summary>
    public IReadOnlyCollection<int> Running => _running;

    /// <summary>Index after the last trial in which anything has happened.</summary>
    public int Begun { get; private set; }

    /// <summary>Sum of all evaluations of the network so far.</summary>
    public long Evaluations { get; private set; }

    /// <summary>From now on the search is that of an edited spec, which may have more or fewer trials.</summary>
    public void Revise(ExperimentSpec spec)
    {
        _search.Revise(spec, Begun, trial => this[trial].Parameters);
        _counts[(int)RunState.Queued] += _search.Trials - _rows.Length;
        Array.Resize(ref _rows, _search.Trials);
        (_spec, _firstQueued, _allEnded, _best) = (spec, 0, 0, default);
    }

    /// <summary>Trials that wait, by index.</summary>
    public IEnumerable<int> Queued
    {
        get
        {
            while (_firstQueued < _rows.Length && StateOf(_firstQueued) != RunState.Queued)
                _firstQueued++;
            for (var trial = _firstQueued; trial < _rows.Length; trial++)
                if (StateOf(trial) == RunState.Queued)
                    yield return trial;
        }
    }

    public bool IsQueued(int trial) => (uint)trial < (uint)_rows.Length && StateOf(trial) == RunState.Queued;

    /// <summary>Whether all trials with a lower index have ended.</summary>
    public bool EndedBefore(int trial)
    {
        while (_allEnded < _rows.Length && IsEnded(StateOf(_allEnded)))
            _allEnded++;
        return trial <= _allEnded;
    }

    /// <summary>The objective's number of a trial; null unless it succeeded and has it.</summary>
    public double? ObjectiveOf(int trial) =>
        _rows[trial] is { Snapshot: { State: RunState.Succeeded } snapshot } && snapshot.Metrics.TryGetValue(_spec.Ranked()[0].Metric, out var value) && double.IsFinite(value) ? value : null;

    /// <summary>The numbers of all objectives, in the order of the spec; null unless the trial succeeded and has them.</summary>
    public IReadOnlyList<double>? ObjectivesOf(int trial) =>
        _rows[trial] is { Snapshot: { State: RunState.Succeeded } snapshot } && _spec.Ranked().Select(objective => snapshot.Metrics.GetValueOrDefault(objective.Metric, double.NaN)).ToArray() is var values && values.All(double.IsFinite) ? values : null;

    public int LookedAt(int trial) => _rows[trial]?.LookedAt ?? 0;

    /// <summary>Whether it was told that its gradients are computed one sample at a time.</summary>
    public bool IsLean(int trial) => _rows[trial]?.IsLean ?? false;

    /// <summary>By how many kinds of workers, one after the other, it was told that a trial is computed.</summary>
    public int ArithmeticsOf(int trial) => _rows[trial]?.Arithmetics ?? 1;

    public int AttemptOf(int trial) => _rows[trial]?.Attempt ?? 0;

    /// <summary>Whether a waiting trial has its values already: it is tried again.</summary>
    public bool HasValues(int trial) => AttemptOf(trial) > 0 && _rows[trial]!.Snapshot.StartedAt is not null;

    public int StepOf(int trial) => _rows[trial]?.Step ?? 0;

    public TrialTotals TotalsOf(int trial) => _rows[trial]?.Totals ?? new();

    /// <summary>What the trial last said was committed of its ledger; null before it said anything.</summary>
    public CommittedHead? HeadOf(int trial) => _rows[trial]?.Head;

    public string ModelSha256 { get; private set; } = "";

    /// <summary>Puts a line of the journal into effect.</summary>
    public void Apply(JournalLine line)
    {
        if (line.Event.Trial is not { } trial || (uint)trial >= (uint)_rows.Length)
            return;
        var row = RowOf(trial);
        switch (line.Event.Kind)
        {
            case EventKind.TrialStarted:
                Set(row, row.Snapshot with { State = RunState.Running, StartedAt = line.Event.Time, Parameters = line.Values ?? row.Snapshot.Parameters, BegunWith = line.Origin ?? row.Snapshot.BegunWith });
                break;
            case EventKind.Retried:
                Set(row, row.Snapshot with { State = RunState.Queued, Reason = null, EndedAt = null });
                row.Attempt++;
                (_firstQueued, _allEnded) = (Math.Min(_firstQueued, trial), Math.Min(_allEnded, trial));
                break;
            case EventKind.Looked:
                row.LookedAt = line.Event.Step!.Value;
                if (line.Event.Metrics is { } looked)
                    row.Snapshot = row.Snapshot with { Metrics = Merge(row.Snapshot.Metrics, looked) };
                break;
            case EventKind.MemoryShort:
                row.IsLean = true;
                break;
            case EventKind.ArithmeticChanged:
                row.Arithmetics++;
                break;
            case EventKind.StepCommitted:
                row.Step = line.Event.Step!.Value;
                // The newest are told, and no more.
                if (row.Losses.Count == 2 * MostLosses)
                    row.Losses.RemoveRange(0, MostLosses);
                row.Losses.Add(line.Event.Metrics!.GetValueOrDefault("loss", double.NaN));
                row.Snapshot = row.Snapshot with { Step = row.Step, Metrics = Merge(row.Snapshot.Metrics, line.Event.Metrics!) };
                break;
            case EventKind.TrialEnded when line.Trial is { } final:
                Set(row, final);
                row.Head = Head(final);
                Spend(row, line.Totals ?? new());
                break;
        }
    }

    /// <summary>Takes what a trial says of itself, apart from its steps and its end, which go through the journal.</summary>
    public void Update(TrialReport report)
    {
        var row = RowOf(report.Snapshot.Index);
        if (report.ModelSha256.Length > 0)
            ModelSha256 = report.ModelSha256;
        Spend(row, report.Totals);
        row.Head = Head(report.Snapshot);
        if (!IsEnded(row.Snapshot.State) && !IsEnded(report.Snapshot.State))
            Set(row, report.Snapshot with { Step = row.Step });
    }

    public bool IsNew(TrialReport report)
    {
        var row = RowOf(report.Snapshot.Index);
        if ((report.Epoch, report.Number).CompareTo((row.Epoch, row.Number)) <= 0)
            return false;
        (row.Epoch, row.Number) = (report.Epoch, report.Number);
        return true;
    }

    /// <summary>What a snapshot tells: all trials, or of many those that run, the best, and the first others.</summary>
    public IReadOnlyList<TrialSnapshot> Told()
    {
        if (_rows.Length <= ExperimentSnapshot.MostTrials)
            return Page(0, _rows.Length);
        var told = new SortedSet<int>(_running.Take(ExperimentSnapshot.MostTrials / 2));
        if (Best() is { } best)
            told.Add(best);
        for (var trial = 0; told.Count < ExperimentSnapshot.MostTrials; trial++)
            told.Add(trial);
        return [.. told.Select(trial => WithLosses(trial, told.Count))];
    }

    /// <summary>Trials by index.</summary>
    public IReadOnlyList<TrialSnapshot> Page(int skip, int take)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(skip);
        var count = Math.Clamp(take, 0, Math.Min(ExperimentSnapshot.MostTrials, Math.Max(0, _rows.Length - skip)));
        return [.. Enumerable.Range(skip, count).Select(trial => WithLosses(trial, count))];
    }

    /// <param name="trial">Index.</param>
    /// <param name="among">Trials in the same message, which stays small enough for one.</param>
    public TrialSnapshot WithLosses(int trial, int among = 1)
    {
        if (_rows[trial] is not { } row)
            return Untouched(trial);
        var most = Math.Clamp(100 * MostLosses / among, 1, MostLosses);
        return row.Snapshot with { LossHistory = [.. row.Losses.Skip(Math.Max(0, row.Losses.Count - most))], Totals = row.Totals };
    }

    /// <summary>With several objectives: the succeeded trials that no other one is better than in all of them; else null.</summary>
    public IReadOnlyList<int>? Front()
    {
        if (_spec.Objectives is not { } objectives)
            return null;
        var trials = Enumerable.Range(0, Math.Min(Begun, _rows.Length)).Where(trial => ObjectivesOf(trial) is not null).ToList();
        return [.. ParetoFront.First([.. trials.Select(trial => ObjectivesOf(trial)!.Select((value, k) => objectives[k].Goal == Goal.Minimize ? value : -value).ToArray())]).Select(at => trials[at])];
    }

    /// <summary>Index of the best succeeded trial, with several objectives by the first; of equals the first. Null when none has the metric.</summary>
    public int? Best()
    {
        if (_best.IsKnown)
            return _best.Trial;
        _best = (null, true);
        for (var trial = 0; trial < Math.Min(Begun, _rows.Length); trial++)
            Compare(trial);
        return _best.Trial;
    }

    private void Compare(int trial)
    {
        if (ObjectiveOf(trial) is not { } value)
            return;
        var best = _best.Trial is { } known ? ObjectiveOf(known) : null;
        if (best is null || (_spec.Ranked()[0].Goal == Goal.Minimize ? value < best : value > best) || (value == best && trial < _best.Trial))
            _best.Trial = trial;
    }

    /// <summary>Trials that took steps, the best by the first objective first, then those without its number.</summary>
    public IEnumerable<int> Ranked() => Enumerable.Range(0, Math.Min(Begun, _rows.Length)).Where(trial => StepOf(trial) > 0)
        .OrderBy(trial => ObjectiveOf(trial) is { } value ? _spec.Ranked()[0].Goal == Goal.Minimize ? value : -value : double.PositiveInfinity).ThenBy(trial => trial);

    public static bool IsEnded(RunState state) => state is RunState.Succeeded or RunState.Failed or RunState.Cancelled or RunState.Stopped;

    private RunState StateOf(int trial) => _rows[trial]?.Snapshot.State ?? RunState.Queued;

    private Row RowOf(int trial) => _rows[trial] ??= new Row { Snapshot = Untouched(trial) };

    private TrialSnapshot Untouched(int trial) => new()
    {
        Index = trial, State = RunState.Queued, Parameters = _search.ValuesOf(trial), Step = 0, Steps = _spec.Training.Steps,
        Metrics = new Dictionary<string, double>(), LossHistory = [],
    };

    private void Set(Row row, TrialSnapshot snapshot)
    {
        _counts[(int)row.Snapshot.State]--;
        _counts[(int)snapshot.State]++;
        if (snapshot.State == RunState.Running)
            _running.Add(snapshot.Index);
        else
            _running.Remove(snapshot.Index);
        var before = row.Snapshot.State;
        row.Snapshot = snapshot;
        // With every trial's end: among many, each is compared once.
        if (before == RunState.Succeeded)
            _best = default;
        else if (snapshot.State == RunState.Succeeded && _best.IsKnown)
            Compare(snapshot.Index);
        Begun = Math.Max(Begun, snapshot.Index + 1);
    }

    private void Spend(Row row, TrialTotals totals)
    {
        Evaluations += totals.ForwardNfe + totals.BackwardNfe - row.Totals.ForwardNfe - row.Totals.BackwardNfe;
        row.Totals = totals;
    }

    private static CommittedHead Head(TrialSnapshot trial) => new(trial.Step, trial.LedgerSha256, trial.State == RunState.Succeeded, "the trial's last report");

    private static Dictionary<string, double> Merge(IReadOnlyDictionary<string, double> old, IReadOnlyDictionary<string, double> news)
    {
        var merged = new Dictionary<string, double>(old);
        foreach (var (name, value) in news)
            merged[name] = value;
        return merged;
    }

    private sealed class Row
    {
        public required TrialSnapshot Snapshot { get; set; }

        public int Step { get; set; }

        public int LookedAt { get; set; }

        public int Attempt { get; set; }

        public bool IsLean { get; set; }

        public int Arithmetics { get; set; } = 1;

        public List<double> Losses { get; } = [];

        public TrialTotals Totals { get; set; } = new();

        public CommittedHead? Head { get; set; }

        public long Epoch { get; set; }

        public long Number { get; set; }
    }
}
