using System.Runtime.CompilerServices;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments.Searching;
using AdjointDpm.Grains.Experiments.Stopping;
using AdjointDpm.Grains.Hosting;
using AdjointDpm.Grains.Security;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Telemetry;
using AdjointDpm.Grains.Trials;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Grains.Experiments;

/// <summary>Owns the search of one experiment: starts trials, hears their reports, numbers the events, ends with a report.</summary>
/// <remarks>Reentrant: state changes only in synchronous stretches, and writes are queued behind one another.</remarks>
internal sealed partial class ExperimentRun(
    IActivation activation,
    IPersistentState<ExperimentState> storage,
    SiloFolders folders,
    IDisk disk,
    IArtifacts artifacts,
    TimeProvider time,
    AdjointDpmInstruments instruments,
    ILogger logger) : IDisposable
{
    private readonly SemaphoreSlim _writing = new(1);
    private readonly EventLog _events = new();
    private Task _telling = Task.CompletedTask;
    private int _told;
    private TaskCompletionSource _news = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ExperimentSpec? _spec;
    private Search? _search;
    private string? _specJson;
    private string? _trialSpec;
    private TrialTable? _trials;
    private ExperimentJournal? _journal;
    private IDisposable? _pump;
    private LiveExperiment? _live;

    /// <summary>When a place last became free; null when that was under a former activation.</summary>
    private DateTimeOffset? _freed;

    private bool _ending;
    private bool _submitting;
    private bool _listed;

    private ExperimentState State => storage.State;

    private string Id => activation.Key;

    private string JournalFolder => Path.Combine(folders.Data, "journal", Id);

    /// <summary>The last event is out, not just decided.</summary>
    private bool IsTold => _events.Last is { Kind: EventKind.ExperimentEnded };

    private bool IsEnded => TrialTable.IsEnded(State.State);

    public async Task ActivateAsync()
    {
        if (!storage.RecordExists)
            return;
        if (!IsEnded)
        {
            State.Epoch++;
            await storage.WriteStateAsync();
        }
        await LoadAsync();
        if (IsEnded)
        {
            // A crash between the last write and the last event.
            if (!IsTold)
                EmitEnd();
            return;
        }
        LogRecovered(logger, Id, _events.Count, State.Epoch);
        StartPump();
    }

    public void Dispose()
    {
        _live?.Dispose();
        _writing.Dispose();
    }

    public async Task<SubmitReceipt> SubmitAsync(ExperimentSubmission submission)
    {
        if (State.Submission is { } known)
        {
            if (known.SpecSha256 != submission.SpecSha256)
                throw new ArgumentException($"Experiment '{Id}' exists with another spec (SHA-256 {known.SpecSha256[..12]}…, submitted: {submission.SpecSha256[..12]}…). Submit the changed spec under a new id.");
            return new SubmitReceipt(Id, Existed: true, _trials!.Count);
        }
        _ = artifacts.PlaceOf(Id);
        if (submission.Labels.Count > ExperimentSubmission.MostLabels || submission.Labels.Any(label => label.Key.Length > ExperimentSubmission.MostOfLabel || label.Value.Length > ExperimentSubmission.MostOfLabel) || submission.Command?.Length > 4000)
            throw new ArgumentException($"There are at most {ExperimentSubmission.MostLabels} labels of {ExperimentSubmission.MostOfLabel} characters. Shorten metadata.labels.");
        if (ExperimentSpecJson.Sha256(submission.SpecJson) != submission.SpecSha256)
            throw new ArgumentException($"The spec does not have the SHA-256 that was sent with it ({submission.SpecSha256}). Send the canonical JSON unchanged.");
        // Throws for a spec that this version does not read, before anything is kept.
        ExperimentSpec spec;
        try
        {
            spec = ExperimentSpecJson.Deserialize(submission.SpecJson);
            _ = new Search(spec).Trials;
        }
        catch (Exception e) when (e is SpecException or InvalidOperationException)
        {
            // Of a kind that travels to clients.
            throw new ArgumentException(e.Message);
        }
        // Whoever submits from elsewhere could not look.
        if (submission.PathsOfSilos && SpecPaths.Missing(ExperimentSpecJson.Serialize(spec)) is { } missing)
            throw new ArgumentException($"{missing} Paths of this experiment are those of the silos.");
        var caller = Caller.Current;
        // One at a time: what waits for the directory below must not be met by a second submission.
        if (_submitting)
            throw new ArgumentException($"Experiment '{Id}' is being submitted by another client. Try again.");
        _submitting = true;
        var reserved = false;
        using var span = Traces.Start("submit")?.SetTag("adjointdpm.experiment", Id);
        try
        {
            if (caller is { Project: not Caller.AllProjects })
            {
                await ReserveAsync(caller.Project, submission.Name, spec.MaxConcurrentTrials);
                reserved = true;
            }
            // To go on with it would be to mix two histories, perhaps of two specs.
            if ((await disk.ListAsync(JournalFolder)).Count > 0)
                throw new ArgumentException($"The data folder holds the journal of an experiment '{Id}' whose state is gone. Restore the state from its backup, or submit under another name; to begin anew under this one, remove journal/{Id} and trials/{Id} from the data folder first.");
            (State.Submission, State.State, State.Epoch, State.SubmittedAt, State.Project, State.Trace) = (submission, RunState.Running, 1, time.GetUtcNow(), caller?.Project, span?.Id);
            await WriteAsync();
        }
        catch
        {
            State.Submission = null;
            if (reserved)
                await Room.ForgetAsync(Id);
            throw;
        }
        finally
        {
            _submitting = false;
        }
        _freed = State.SubmittedAt;
        await LoadAsync();
        LogSubmitted(logger, Id, _trials!.Count);
        // Before anything else can fail: what is accepted must run, also when nobody submits it again.
        StartPump();
        EmitSubmitted();
        await ListAsync();
        return new SubmitReceipt(Id, Existed: false, _trials.Count);
    }

    /// <summary>Other projects' experiments are not there for a user.</summary>
    /// <exception cref="UnauthorizedAccessException">This one is another project's.</exception>
    public void Demand(Caller? caller)
    {
        if (caller is not null && State.Submission is not null && !caller.Sees(State.Project))
            throw new UnauthorizedAccessException($"Project {caller.Project} has no experiment '{Id}'.");
    }

    private IExperimentRoomGrain Room => activation.Grains.GetGrain<IExperimentRoomGrain>(IExperimentDirectoryGrain.Key);

    /// <summary>Takes of the project's quota what this experiment needs, or throws.</summary>
    private Task ReserveAsync(string project, string name, int concurrent) =>
        Room.ReserveAsync(new ExperimentSummary { Id = Id, Name = name, State = RunState.Running, Trials = 0, TrialsEnded = 0, SubmittedAt = time.GetUtcNow(), Project = project, Concurrent = concurrent });

    public ExperimentSnapshot? Snapshot() => _trials is null
        ? null
        : new ExperimentSnapshot
        {
            Summary = Summary(),
            SpecJson = _specJson!,
            SpecSha256 = State.Submission!.SpecSha256,
            Trials = _trials.Told(),
            BestTrial = _trials.Best(),
            Front = _trials.Front(),
            ArtifactFolder = artifacts.PlaceOf(Id),
            Reason = State.Reason,
            Sequence = _told,
        };

    public IReadOnlyList<TrialSnapshot> Trials(int skip, int take) => _trials?.Page(skip, take) ?? [];

    public async Task<bool> CancelAsync()
    {
        if (_trials is null || IsEnded)
            return false;
        State.CancelRequested = true;
        await WriteAsync();
        await PumpAsync();
        return true;
    }

    public async IAsyncEnumerable<ExperimentEvent> WatchAsync(long afterSequence, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        IReadOnlyList<ExperimentEvent> past = [];
        for (var next = (int)Math.Max(0, afterSequence); ;)
        {
            // Taken before looking, so that nothing falls between.
            var news = _news.Task;
            for (; next < _told; next++)
            {
                if (!_events.TryGet(next, out var happened))
                {
                    if (next >= past.Count)
                        past = await PastAsync();
                    happened = past[next];
                }
                yield return happened;
            }
            past = [];
            if (_trials is null || (IsTold && next >= _events.Count))
                yield break;
            await news.WaitAsync(cancellationToken);
        }
    }

    public async Task<GradientProofReport?> GetGradientProofAsync(int trial)
    {
        var proof = await disk.ReadAsync(Path.Combine(folders.TrialWork(Id, trial), ResultNames.Proof));
        return proof is null ? null : GradientProofReport.Parse(proof);
    }

    public async Task<TrialAudit?> AuditAsync(int trial)
    {
        if (_trials is null || (uint)trial >= (uint)_trials.Count)
            return null;
        var head = _trials.HeadOf(trial);
        return await Task.Run(() => new RunFolder(folders.Data).Audit(Id, trial, head));
    }

    public async Task<int> ReportAsync(TrialReport report)
    {
        if (_trials is null)
            throw new InvalidOperationException($"Experiment '{Id}' was never submitted.");
        var trial = report.Snapshot.Index;
        // The end is the last event: what is told later, or once more, changes nothing. What a former attempt says of its end is known, and is not the end of this one.
        if (IsOver(report))
        {
            if (!TrialTable.IsEnded(report.Snapshot.State))
                End(trial);
            // Nothing more of it is wanted.
            return report.Snapshot.Step;
        }
        // A former activation has started it and could not tell any more.
        if (_trials[trial].State == RunState.Queued)
            EmitStarted(trial, report.Snapshot.Parameters);
        _trials.Update(report);
        if (report.Snapshot.LeanFrom is { } lean && !_trials.IsLean(trial))
            Emit(EventKind.MemoryShort, report.Snapshot.LeanNotice!, trial, lean, durable: true);
        foreach (var since in report.Snapshot.Arithmetic.Skip(_trials.ArithmeticsOf(trial)))
            Emit(EventKind.ArithmeticChanged, since.Notice(), trial, since.Step, durable: true);
        foreach (var step in report.Steps)
        {
            if (step.Step == _trials.StepOf(trial) + 1)
                Emit(EventKind.StepCommitted, Describe(step, report.Snapshot.Steps), trial, step.Step, step.Metrics);
        }
        if (_trials.IsNew(report))
        {
            foreach (var reissue in report.Reissues)
                Emit(EventKind.ShardReissued, $"Shard {reissue.Shard} was given to {reissue.Worker} (attempt {reissue.Attempt}).", trial, reissue.Step + 1);
        }
        var known = _trials.StepOf(trial);
        var looks = report.Looks.Where(look => look.Key > _trials.LookedAt(trial) && look.Key <= known && !TrialTable.IsEnded(_trials[trial].State)).ToList();
        foreach (var (step, value) in looks)
            Emit(EventKind.Looked, Look(step, value, report.Snapshot.Steps), trial, step, double.IsFinite(value) ? new Dictionary<string, double> { [_spec!.Objective.Metric] = value } : null, durable: true);
        if (looks.Count > 0 || (!IsHalted && _spec!.Budget?.Evaluations <= _trials.Evaluations))
            await AdvanceAsync(wakeAll: IsHalted || looks.Count == 0);
        if (TrialTable.IsEnded(report.Snapshot.State) && known >= report.Snapshot.Step && !TrialTable.IsEnded(_trials[trial].State))
        {
            Emit(EventKind.TrialEnded, Ending(report.Snapshot), trial, report.Snapshot.Step, report.Snapshot.Metrics, report.Snapshot, report.Totals, durable: true);
            // Those that run already are awake; the pump asks after them now and then.
            _freed = time.GetUtcNow();
            await AdvanceAsync(wakeAll: false);
        }
        return known;
    }

    /// <summary>Whether the experiment waits for no news of a trial.</summary>
    private bool IsOver(TrialReport report) => (uint)report.Snapshot.Index >= (uint)_trials!.Count
        || IsEnded || TrialTable.IsEnded(_trials[report.Snapshot.Index].State) || report.Attempt < _trials.AttemptOf(report.Snapshot.Index);

    /// <summary>A trial runs although nobody waits for it: a former activation began it and could not tell, or its state was lost and it began anew.</summary>
    private void End(int trial)
    {
        LogNotWanted(logger, Id, trial);
        activation.Grains.GetGrain<ITrialGrain>(ITrialGrain.KeyOf(Id, trial)).CancelAsync().Ignore();
    }

    public async Task<bool> PokeAsync()
    {
        if (_trials is null || IsEnded)
            return false;
        await PumpAsync();
        return true;
    }

    private async Task LoadAsync()
    {
        _specJson = State.Submission!.SpecJson;
        _spec = ExperimentSpecJson.Deserialize(_specJson);
        _search = new Search(_spec);
        _trials = new TrialTable(_spec, _search);
        _schedule = _spec.EarlyStopping is null ? null : new TrialSchedule(_spec, _trials.Count);
        Decide();
        _journal = new ExperimentJournal(disk, JournalFolder, State.Epoch);
        foreach (var line in await _journal.ReadAsync())
        {
            Apply(line);
            _events.Add(line.Event);
        }
        _told = _events.Count;
        // What all trials have in common, without the search, which may be a thousand times as long.
        _trialSpec = SpecOverrides.Apply(State.Submission.SpecJson, []);
    }

    private void StartPump()
    {
        _live ??= instruments.ExperimentLives(Id);
        _pump ??= activation.Every(TimeSpan.Zero, TimeSpan.FromSeconds(2), PumpAsync);
    }

    /// <summary>Makes what should be true true: running trials awake, free places filled, the end written. Safe to call at any time.</summary>
    private async Task PumpAsync()
    {
        await AdvanceAsync(wakeAll: true);
        Show();
    }

    /// <summary>Where it stands, for whoever watches the metrics.</summary>
    private void Show() => _live?.Show(new LiveExperimentValues(_trials!.Counts, _trials.Evaluations, _spec!.Ranked()[0].Metric, _trials.Best() is { } best ? _trials.ObjectiveOf(best) : null));

    private async Task AdvanceAsync(bool wakeAll)
    {
        if (_trials is null || IsEnded || _ending)
            return;
        EmitSubmitted();
        if (!_listed)
            await ListAsync();
        await LimitAsync();
        foreach (var trial in (IsHalted ? _trials.Queued : State.CancelledTrials.Where(_trials.IsQueued).Order()).ToArray())
            Emit(EventKind.TrialEnded, "Cancelled before it began.", trial, final: _trials[trial] with { State = RunState.Cancelled, Reason = HaltReason, EndedAt = time.GetUtcNow() });
        if (State.Paused && !IsHalted)
        {
            await Task.WhenAll(_trials.Running.Except(_resting).ToArray().Select(RestAsync));
            if (_trials.Ended == _trials.Count)
                await EndAsync();
            return;
        }
        var started = IsHalted ? [] : _schedule is null ? Free() : Scheduled();
        foreach (var trial in started)
            Start(trial);
        await Task.WhenAll((wakeAll || _schedule is not null ? Awake() : started).Select(WakeAsync));
        if (_trials.Ended == _trials.Count)
            await EndAsync();
    }

    private async Task WakeAsync(int trial)
    {
        try
        {
            var grain = activation.Grains.GetGrain<ITrialGrain>(ITrialGrain.KeyOf(Id, trial));
            var values = _trials![trial].Parameters;
            var specJson = SpecOverrides.Apply(_trialSpec!, [.. values, .. SeedOf(trial)]);
            await grain.StartAsync(new TrialAssignment
            {
                Experiment = Id,
                Index = trial,
                SpecJson = specJson,
                SpecSha256 = ExperimentSpecJson.Sha256(specJson),
                Parameters = values,
                Until = UntilOf(trial),
                Attempt = _trials.AttemptOf(trial),
                Origin = OriginOf(trial),
                KeepLast = _spec!.Algorithm.Name == AlgorithmName.Pbt,
                Trace = State.Trace,
                Since = _freed,
            });
            if (IsHalted || State.CancelledTrials.Contains(trial))
                await grain.CancelAsync();
            else if (_stops.TryGetValue(trial, out var stop))
                await grain.StopAsync(stop);
        }
        catch (SpecException e)
        {
            if (_trials![trial].State == RunState.Running)
                Emit(EventKind.TrialEnded, e.Message, trial, final: _trials[trial] with { State = RunState.Failed, Reason = e.Message, EndedAt = time.GetUtcNow() }, durable: true);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            LogNotReached(logger, Id, trial, e.Message);
        }
    }

    private async Task EndAsync()
    {
        // Another round of the pump may have ended it while this one waited for trials.
        if (_ending || IsEnded)
            return;
        _ending = true;
        try
        {
            var (state, reason) = Outcome();
            await ExperimentReport.WriteAsync(artifacts, Summary() with { State = state, EndedAt = time.GetUtcNow() }, State.Submission! with { SpecJson = _specJson! }, _spec!, _trials!, reason, ObservedAsync);
            (State.State, State.Reason, State.EndedAt) = (state, reason, time.GetUtcNow());
            try
            {
                await WriteAsync();
            }
            catch
            {
                // Not ended, or ended without my knowing it, which the next write then meets: either way to be tried again.
                (State.State, State.Reason, State.EndedAt) = (RunState.Running, null, null);
                throw;
            }
            _pump?.Dispose();
            _live?.Dispose();
            (_pump, _live) = (null, null);
            EmitEnd();
            LogEnded(logger, Id, state, reason ?? "");
            await PutSummaryAsync();
        }
        finally
        {
            _ending = false;
        }
    }

    private (RunState State, string? Reason) Outcome()
    {
        if (_trials!.Succeeded > 0)
            return (RunState.Succeeded, State.Limit is { } limit && !limit.StartsWith("The target", StringComparison.Ordinal) ? limit : null);
        if (State.CancelRequested)
            return (RunState.Cancelled, "It was cancelled.");
        if (Enumerable.Range(0, _trials.Count).Select(trial => _trials[trial]).FirstOrDefault(trial => trial.State == RunState.Failed) is not { } first)
            return (RunState.Cancelled, State.Limit ?? "All of its trials were cancelled.");
        return (RunState.Failed, _trials.Count == 1 ? first.Reason : $"None of {_trials.Count} trials succeeded. Trial {first.Index}: {first.Reason}");
    }
}
