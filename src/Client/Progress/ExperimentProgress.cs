using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Progress;

/// <summary>The state of an experiment between two snapshots, kept up by events.</summary>
internal sealed class ExperimentProgress(TimeProvider time)
{
    private readonly Dictionary<int, (int Step, double? Loss)> _newer = [];
    private long? _since;
    private int _stepsAtStart;

    /// <summary>Newest snapshot.</summary>
    public ExperimentSnapshot? Snapshot { get; private set; }

    public int StepsPlanned => Snapshot?.Trials.Where(trial => trial.State is not (RunState.Failed or RunState.Cancelled)).Sum(trial => trial.Steps) ?? 0;

    public int StepsDone => Snapshot?.Trials.Where(trial => trial.State is not (RunState.Failed or RunState.Cancelled)).Sum(trial => Step(trial)) ?? 0;

    public int TrialsEnded => Snapshot?.Summary.TrialsEnded ?? 0;

    /// <summary>Time to the end at the speed seen so far; null before the first step.</summary>
    public TimeSpan? Remaining
    {
        get
        {
            if (_since is not { } since || StepsDone <= _stepsAtStart) return null;
            return time.GetElapsedTime(since) / (StepsDone - _stepsAtStart) * (StepsPlanned - StepsDone);
        }
    }

    public void Refresh(ExperimentSnapshot experiment)
    {
        Snapshot = experiment;
        foreach (var trial in experiment.Trials)
        {
            if (_newer.TryGetValue(trial.Index, out var newer) && newer.Step <= trial.Step) _newer.Remove(trial.Index);
        }

        if (_since is not null) return;
        (_since, _stepsAtStart) = (time.GetTimestamp(), StepsDone);
    }

    public void Happened(ExperimentEvent happened)
    {
        if (happened is not { Kind: EventKind.StepCommitted, Trial: { } trial, Step: { } step }) return;
        if (Snapshot?.Trials.FirstOrDefault(t => t.Index == trial)?.Step >= step) return; // replayed from before the snapshot
        _newer[trial] = (step, happened.Metrics is { } metrics && metrics.TryGetValue("loss", out var loss) ? loss : null);
    }

    public int Step(TrialSnapshot trial) => _newer.TryGetValue(trial.Index, out var newer) ? newer.Step : trial.Step;

    public double? Loss(TrialSnapshot trial) =>
        _newer.TryGetValue(trial.Index, out var newer) && newer.Loss is { } loss ? loss
        : trial.Metrics.TryGetValue("loss", out var recorded) ? recorded
        : trial.LossHistory.Count > 0 ? trial.LossHistory[^1] : null;
}
