using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Experiments;

/// <summary>The trials of an experiment as the experiment knows them: built from the journal, kept up by reports.</summary>
internal sealed class TrialTable
{
    /// <summary>Losses that a snapshot carries of one trial.</summary>
    private const int MostLosses = 2000;

    private readonly Row[] _rows;
    private readonly ObjectiveSpec _objective;

    public TrialTable(ExperimentSpec spec, Search search)
    {
        _objective = spec.Objective;
        _rows = new Row[search.Trials];
        for (var i = 0; i < _rows.Length; i++)
            _rows[i] = new Row
            {
                Snapshot = new TrialSnapshot
                {
                    Index = i, State = RunState.Queued, Parameters = search.ValuesOf(i), Step = 0, Steps = spec.Training.Steps,
                    Metrics = new Dictionary<string, double>(), LossHistory = [],
                },
            };
    }

    public int Count => _rows.Length;

    public int Ended => _rows.Count(row => IsEnded(row.Snapshot.State));

    public int Succeeded => _rows.Count(row => row.Snapshot.State == RunState.Succeeded);

    public TrialSnapshot this[int trial] => _rows[trial].Snapshot;

    public IEnumerable<int> InState(RunState state) => Enumerable.Range(0, _rows.Length).Where(trial => _rows[trial].Snapshot.State == state);

    public int StepOf(int trial) => _rows[trial].Step;

    public TrialTotals TotalsOf(int trial) => _rows[trial].Totals;

    /// <summary>What the trial last said was committed of its ledger; null before it said anything.</summary>
    public CommittedHead? HeadOf(int trial) => _rows[trial].Head;

    public string ModelSha256 { get; private set; } = "";

    /// <summary>Puts a line of the journal into effect.</summary>
    public void Apply(JournalLine line)
    {
        if (line.Event.Trial is not { } trial || (uint)trial >= (uint)_rows.Length)
            return;
        var row = _rows[trial];
        switch (line.Event.Kind)
        {
            case EventKind.TrialStarted:
                row.Snapshot = row.Snapshot with { State = RunState.Running, StartedAt = line.Event.Time };
                break;
            case EventKind.StepCommitted:
                row.Step = line.Event.Step!.Value;
                row.Losses.Add(line.Event.Metrics!.GetValueOrDefault("loss", double.NaN));
                row.Snapshot = row.Snapshot with { Step = row.Step, Metrics = Merge(row.Snapshot.Metrics, line.Event.Metrics!) };
                break;
            case EventKind.TrialEnded when line.Trial is { } final:
                row.Snapshot = final;
                row.Head = Head(final);
                row.Totals = line.Totals ?? new();
                break;
        }
    }

    /// <summary>Takes what a trial says of itself, apart from its steps and its end, which go through the journal.</summary>
    public void Update(TrialReport report)
    {
        var row = _rows[report.Snapshot.Index];
        if (report.ModelSha256.Length > 0)
            ModelSha256 = report.ModelSha256;
        row.Totals = report.Totals;
        row.Head = Head(report.Snapshot);
        if (!IsEnded(row.Snapshot.State) && !IsEnded(report.Snapshot.State))
            row.Snapshot = report.Snapshot with { Step = row.Step };
    }

    public bool IsNew(TrialReport report)
    {
        var row = _rows[report.Snapshot.Index];
        if ((report.Epoch, report.Number).CompareTo((row.Epoch, row.Number)) <= 0)
            return false;
        (row.Epoch, row.Number) = (report.Epoch, report.Number);
        return true;
    }

    public TrialSnapshot WithLosses(int trial)
    {
        var row = _rows[trial];
        return row.Snapshot with { LossHistory = [.. row.Losses.Skip(Math.Max(0, row.Losses.Count - MostLosses))] };
    }

    /// <summary>Index of the best succeeded trial; of equals the first. Null when none has the metric.</summary>
    public int? Best()
    {
        int? best = null;
        var bestValue = double.NaN;
        foreach (var trial in InState(RunState.Succeeded))
        {
            if (!_rows[trial].Snapshot.Metrics.TryGetValue(_objective.Metric, out var value) || !double.IsFinite(value))
                continue;
            if (best is null || (_objective.Goal == Goal.Minimize ? value < bestValue : value > bestValue))
                (best, bestValue) = (trial, value);
        }
        return best;
    }

    public static bool IsEnded(RunState state) => state is RunState.Succeeded or RunState.Failed or RunState.Cancelled;

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

        public List<double> Losses { get; } = [];

        public TrialTotals Totals { get; set; } = new();

        public CommittedHead? Head { get; set; }

        public long Epoch { get; set; }

        public long Number { get; set; }
    }
}
