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

    /// <summary>Steps of all trials. One that ended early was to take as many as it took; a snapshot holds a thousand trials, and the others count as these do.</summary>
    public int StepsPlanned => Snapshot is null ? 0 : Snapshot.Trials.Sum(trial => IsEnded(trial) ? trial.Step : trial.Steps) + (Untold * Longest);

    public int StepsDone => Snapshot is null ? 0 : Snapshot.Trials.Sum(Step) + (UntoldEnded * Longest);

    public int TrialsEnded => Snapshot?.Summary.TrialsEnded ?? 0;

    private int Longest => Snapshot!.Trials.Count == 0 ? 0 : Snapshot.Trials.Max(trial => trial.Steps);

    private int Untold => Math.Max(0, Snapshot!.Summary.Trials - Snapshot.Trials.Count);

    private int UntoldEnded => Math.Clamp(Snapshot!.Summary.TrialsEnded - Snapshot.Trials.Count(IsEnded), 0, Untold);

    /// <summary>Time to the end at the speed seen so far; null before there is one. Loading and proving before the first step say nothing about a step.</summary>
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

        if (experiment.Trials.Any(trial => trial.State == RunState.Running && (trial.Step > 0 || trial.Phase == "training"))) Begin();
    }

    public void Happened(ExperimentEvent happened)
    {
        if (happened is not { Kind: EventKind.StepCommitted, Trial: { } trial, Step: { } step }) return;
        if (Snapshot?.Trials.FirstOrDefault(t => t.Index == trial)?.Step >= step) return; // replayed from before the snapshot
        _newer[trial] = (step, happened.Metrics is { } metrics && metrics.TryGetValue("loss", out var loss) ? loss : null);
        Begin();
    }

    /// <summary>The clock runs from the first step that is seen.</summary>
    private void Begin()
    {
        if (_since is null) (_since, _stepsAtStart) = (time.GetTimestamp(), StepsDone);
    }

    private static bool IsEnded(TrialSnapshot trial) => Words.Ended(trial.State);

    public int Step(TrialSnapshot trial) => _newer.TryGetValue(trial.Index, out var newer) ? newer.Step : trial.Step;

    public double? Loss(TrialSnapshot trial) =>
        _newer.TryGetValue(trial.Index, out var newer) && newer.Loss is { } loss ? loss
        : trial.Metrics.TryGetValue("loss", out var recorded) ? recorded
        : trial.LossHistory.Count > 0 ? trial.LossHistory[^1] : null;
}
