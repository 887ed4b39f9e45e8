using System.Diagnostics.CodeAnalysis;

namespace AdjointDpm.Grains.Experiments;

/// <summary>The events of an experiment that are kept in memory. Those of a trial's steps are not, once it has ended and much else has happened: then they are in the journal alone, and a trial costs no more for having many.</summary>
/// <param name="recent">Newest events that are kept, whatever they are, for those who follow.</param>
internal sealed class EventLog(int recent = 4096)
{
    private readonly Dictionary<int, ExperimentEvent> _held = [];
    private readonly Dictionary<int, List<int>> _steps = [];
    private readonly Queue<(int Trial, int End)> _ended = new();
    private readonly HashSet<int> _dropped = [];

    /// <summary>Events so far.</summary>
    public int Count { get; private set; }

    /// <summary>Of those, in memory.</summary>
    public int Held => _held.Count;

    /// <summary>The newest event; null before the first.</summary>
    public ExperimentEvent? Last => Count == 0 ? null : _held[Count - 1];

    public void Add(ExperimentEvent happened)
    {
        _held[Count] = happened;
        if (happened is { Trial: { } trial, Kind: EventKind.StepCommitted })
            (_steps.TryGetValue(trial, out var steps) ? steps : _steps[trial] = []).Add(Count);
        Count++;
        if (happened is { Trial: { } ended, Kind: EventKind.TrialEnded })
            _ended.Enqueue((ended, Count));
        while (_ended.TryPeek(out var old) && old.End <= Count - recent)
            Drop(_ended.Dequeue());
    }

    /// <summary>An event by its place, from 0; false when it is only in the journal.</summary>
    public bool TryGet(int index, [NotNullWhen(true)] out ExperimentEvent? happened) => _held.TryGetValue(index, out happened);

    /// <summary>Whether events of a trial's steps are only in the journal.</summary>
    public bool IsDropped(int trial) => _dropped.Contains(trial);

    /// <summary>Those events of a trial's steps that are in memory, with their places, in order.</summary>
    public IEnumerable<(int Index, ExperimentEvent Step)> StepsOf(int trial) => _steps.TryGetValue(trial, out var steps) ? steps.Select(index => (index, _held[index])) : [];

    private void Drop((int Trial, int End) ended)
    {
        if (!_steps.TryGetValue(ended.Trial, out var steps))
            return;
        // What came after that end is of another attempt.
        foreach (var index in steps.Where(index => index < ended.End))
            _held.Remove(index);
        steps.RemoveAll(index => index < ended.End);
        if (steps.Count == 0)
            _steps.Remove(ended.Trial);
        _dropped.Add(ended.Trial);
    }
}
