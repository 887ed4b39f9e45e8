using AdjointDpm.Grains.Experiments;
using Orleans.Storage;

namespace AdjointDpm.Grains.Trials;

/// <summary>A trial's state with the one way to commit it, and what others may know of it: what is committed and nothing else.</summary>
/// <remarks>Between a change and its commit the state holds what may never come true; reports that are sent then tell the commit before.</remarks>
internal sealed class TrialStore(IPersistentState<TrialState> storage, Func<TrialState, string?> artifacts)
{
    private long _epoch;
    private int? _steps;

    public TrialState State => storage.State;

    public bool Exists => storage.RecordExists;

    /// <summary>The newest commit.</summary>
    /// <exception cref="InvalidOperationException">Nothing was committed or read yet.</exception>
    public CommittedTrial Committed { get => field ?? throw new InvalidOperationException("The trial has no committed state yet."); private set; }

    /// <summary>Writes the state on condition that it is still the one that was read; afterwards it is true.</summary>
    /// <exception cref="StorageAwayException">Whether it was written is not known.</exception>
    public async Task CommitAsync()
    {
        await StorageAwayException.AskAsync(storage.WriteStateAsync);
        Publish();
    }

    /// <summary>Takes changes back that were not committed, or finds that they were.</summary>
    /// <exception cref="InconsistentStateException">Another activation has taken the trial over; to read its state and go on would be to steal it back.</exception>
    /// <exception cref="StorageAwayException">The store does not answer.</exception>
    public async Task ReloadAsync()
    {
        await StorageAwayException.AskAsync(storage.ReadStateAsync);
        if (State.Epoch != _epoch)
            throw new InconsistentStateException($"Epoch {State.Epoch} has taken over from epoch {_epoch}.");
        Publish();
    }

    /// <summary>Makes known what was read and holds as it is.</summary>
    public void Publish() => (_epoch, Committed) = (State.Epoch, new CommittedTrial(Snapshot(), State.Totals, State.ModelSha256, State.Epoch) { Looks = [.. State.Looks], Attempt = State.Attempt });

    private TrialSnapshot Snapshot() => new()
    {
        Index = State.Assignment!.Index,
        State = State.State,
        Parameters = State.Assignment.Parameters,
        Step = State.Step,
        // Of the spec, which never changes: read once, not at every commit.
        Steps = _steps ??= TrialSpecs.Of(State.Assignment.SpecJson).Training.Steps,
        Phase = TrialTable.IsEnded(State.State) ? null : State.Phase switch
        {
            TrialPhase.Preparing => "loading",
            TrialPhase.Proving => "proving",
            TrialPhase.Training when State.Looks.ContainsKey(State.Step) && State.Step >= State.Until => "waiting",
            TrialPhase.Training => "training",
            TrialPhase.Saving => "saving",
            _ => "evaluating",
        },
        Metrics = new Dictionary<string, double>(State.Metrics),
        ParametersSha256 = State.ParametersSha256,
        LedgerSha256 = State.LedgerSha256,
        Proof = State.Proof,
        Reason = State.Reason,
        LossHistory = [],
        StartedAt = State.StartedAt,
        EndedAt = State.EndedAt,
        ArtifactFolder = artifacts(State),
        ShardsReissued = State.ShardsReissued,
        LeanFrom = State.LeanFrom,
        LeanReason = State.LeanReason,
        Arithmetic = [.. State.Arithmetic],
        BegunWith = State.Assignment.Origin?.Trial,
    };
}

/// <summary>A commit as others are told of it.</summary>
internal sealed record CommittedTrial(TrialSnapshot Snapshot, TrialTotals Totals, string ModelSha256, long Epoch)
{
    public int Step => Snapshot.Step;

    public IReadOnlyList<KeyValuePair<int, double>> Looks { get; init; } = [];

    public int Attempt { get; init; }
}
