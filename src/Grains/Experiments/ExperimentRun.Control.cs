using System.Globalization;
using AdjointDpm.Grains.Security;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Experiments;

/// <summary>What people ask of a running experiment.</summary>
internal sealed partial class ExperimentRun
{
    /// <summary>Trials that have been told to pause.</summary>
    private readonly HashSet<int> _resting = [];

    public async Task<ControlReceipt> ControlAsync(ExperimentControl control)
    {
        if (_trials is null)
            throw new ArgumentException($"There is no experiment '{Id}'.");
        if (control.Trial is { } trial && (uint)trial >= (uint)_trials.Count)
            throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"'{Id}' has no trial {trial}: its {Plural(_trials.Count, "trial")} are counted from 0."));
        var receipt = control switch
        {
            { Verb: ControlVerb.Edit } => await EditAsync(control.Settings),
            { Verb: ControlVerb.Pause } => await PauseAsync(control.Trial),
            { Verb: ControlVerb.Resume } => await ResumeAsync(control.Trial),
            { Verb: ControlVerb.Cancel, Trial: { } one } => await CancelAsync(one),
            { Verb: ControlVerb.Cancel } => await CancelAsync() ? new(true, "Its trials stop after the step in hand.") : new(false, $"It had ended already: {Lower(State.State)}."),
            { Verb: ControlVerb.Retry } => await RetryAsync(control.Trial),
            _ => throw new ArgumentException($"'{control.Verb}' is not known to this version of the silos."),
        };
        if (receipt.Changed)
            await PutSummaryAsync();
        return receipt;
    }

    private async Task<ControlReceipt> PauseAsync(int? trial)
    {
        if (IsEnded)
            throw new ArgumentException($"The experiment has ended ({Lower(State.State)}); nothing of it runs.");
        if (State.CancelRequested)
            throw new ArgumentException("The experiment is being cancelled. When it has ended, 'adpm retry' goes on with it.");
        if (trial is { } one)
        {
            if (_schedule is not null)
                throw new ArgumentException($"With earlyStopping every trial waits for the results of the others, so one alone cannot be paused. Pause '{Id}' as a whole.");
            if (_trials![one].State is not RunState.Running and var state)
                throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"Trial {one} is {Lower(state)}; only a running trial can be paused."));
            if (!State.PausedTrials.Add(one))
                return new(false, string.Create(CultureInfo.InvariantCulture, $"Trial {one} was paused already."));
            await WriteAsync();
            Emit(EventKind.Paused, "Paused after the step in hand.", one, durable: true);
            await RestAsync(one);
            // Its place is free for another one.
            await AdvanceAsync(wakeAll: false);
            return new(true, string.Create(CultureInfo.InvariantCulture, $"Trial {one} rests after the step in hand; its place goes to the next one."));
        }
        if (State.Paused)
            return new(false, "It was paused already.");
        State.Paused = true;
        await WriteAsync();
        Emit(EventKind.Paused, "Paused: its trials rest after the step in hand.", durable: true);
        await AdvanceAsync(wakeAll: false);
        return new(true, "Its trials rest after the step in hand.");
    }

    private async Task<ControlReceipt> ResumeAsync(int? trial)
    {
        if (IsEnded)
            throw new ArgumentException($"The experiment has ended ({Lower(State.State)}). 'adpm retry' goes on with trials that failed or were cancelled, 'adpm edit' adds trials.");
        if (trial is { } one)
        {
            if (!State.PausedTrials.Remove(one))
                return new(false, string.Create(CultureInfo.InvariantCulture, $"Trial {one} was not paused{(State.Paused ? ", but the experiment is: resume that" : "")}."));
            _resting.Remove(one);
            await WriteAsync();
            Emit(EventKind.Resumed, "Goes on.", one, durable: true);
        }
        else
        {
            if (!State.Paused && State.PausedTrials.Count == 0)
                return new(false, "It was not paused.");
            (State.Paused, State.PausedTrials) = (false, []);
            _resting.Clear();
            await WriteAsync();
            Emit(EventKind.Resumed, "Goes on.", durable: true);
        }
        await PumpAsync();
        return new(true, "It goes on.");
    }

    private async Task<ControlReceipt> CancelAsync(int trial)
    {
        if (IsEnded || TrialTable.IsEnded(_trials![trial].State))
            return new(false, string.Create(CultureInfo.InvariantCulture, $"Trial {trial} had ended already: {Lower(_trials![trial].State)}."));
        if (!State.CancelledTrials.Add(trial))
            return new(false, string.Create(CultureInfo.InvariantCulture, $"Trial {trial} is being cancelled already."));
        State.PausedTrials.Remove(trial);
        var waits = _trials[trial].State == RunState.Queued;
        await WriteAsync();
        if (State.Paused && !waits)
            await WakeAsync(trial);
        await PumpAsync();
        return new(true, waits ? string.Create(CultureInfo.InvariantCulture, $"Trial {trial} will not begin.") : string.Create(CultureInfo.InvariantCulture, $"Trial {trial} stops after the step in hand."));
    }

    private async Task<ControlReceipt> RetryAsync(int? trial)
    {
        if (State.CancelRequested && !IsEnded)
            throw new ArgumentException("The experiment is being cancelled. Try again when it has ended.");
        if (trial is { } one && _trials![one].State is not (RunState.Failed or RunState.Cancelled) and var state)
            throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"Trial {one} is {Lower(state)}; only trials that failed or were cancelled are tried again."));
        var again = trial is { } single ? [single] : Enumerable.Range(0, _trials!.Count).Where(index => _trials[index].State is RunState.Failed or RunState.Cancelled).ToArray();
        if (again.Length == 0)
            return new(false, "No trial failed or was cancelled.");
        if (State.Limit is not null && Limit() is { } limit && (_spec!.Budget?.Failures is null || _trials!.Failed - again.Count(index => _trials[index].State == RunState.Failed) > _spec.Budget.Failures))
            throw new ArgumentException($"{limit} Raise it first with 'adpm edit {Id} --set budget…'.");
        State.CancelledTrials.ExceptWith(again);
        await ReopenAsync();
        foreach (var index in again)
            Emit(EventKind.Retried, "Tried again" + (_trials!.StepOf(index) > 0 ? string.Create(CultureInfo.InvariantCulture, $" from step {_trials.StepOf(index)} on.") : "."), index, durable: index == again[^1]);
        await PumpAsync();
        return new(true, again.Length == 1 ? string.Create(CultureInfo.InvariantCulture, $"Trial {again[0]} is tried again.") : $"{Plural(again.Length, "trial")} are tried again.");
    }

    private async Task<ControlReceipt> EditAsync(IReadOnlyList<KeyValuePair<string, string>> settings)
    {
        if (State.CancelRequested && !IsEnded)
            throw new ArgumentException("The experiment is being cancelled. Edit it when it has ended, then 'adpm retry'.");
        var json = SpecEdits.Apply(_specJson!, settings, _trials!.Begun);
        if (json == _specJson)
            return new(false, "Nothing changes by that.");
        var (before, from) = (_trials.Count, _trials.Begun);
        var edited = ExperimentSpecJson.Deserialize(json);
        if (IsEnded && State.Limit is null && !(edited.MaxTrials > _trials.Count))
            throw new ArgumentException($"The experiment has ended ({Lower(State.State)}). Now only more trials can be asked for: --set maxTrials={_trials.Count + 1} or more.");
        if (State.Project is { } project && project != Caller.AllProjects && (edited.MaxConcurrentTrials > _spec!.MaxConcurrentTrials || IsEnded))
            await ReserveAsync(project, State.Submission!.Name, edited.MaxConcurrentTrials);
        if (State.Limit is not null || IsEnded)
            await ReopenAsync();
        Emit(EventKind.Edited, "Edited: " + string.Join(", ", settings.Select(setting => $"{setting.Key} = {setting.Value}")) + ".", durable: true, specJson: json);
        await PumpAsync();
        var count = _trials.Count == before ? Plural(before, "trial") : string.Create(CultureInfo.InvariantCulture, $"{_trials.Count} trials instead of {before}");
        return new(true, string.Create(CultureInfo.InvariantCulture, $"{count}, {edited.MaxConcurrentTrials} at a time; it holds from trial {from} on."));
    }

    /// <summary>Goes on, also after the end.</summary>
    private async Task ReopenAsync()
    {
        var ended = IsEnded;
        (State.CancelRequested, State.Limit) = (false, null);
        if (ended)
            (State.State, State.Reason, State.EndedAt) = (RunState.Running, null, null);
        await WriteAsync();
        if (ended)
            StartPump();
    }

    private async Task RestAsync(int trial)
    {
        try
        {
            await activation.Grains.GetGrain<ITrialGrain>(ITrialGrain.KeyOf(Id, trial)).PauseAsync();
            _resting.Add(trial);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            LogNotReached(logger, Id, trial, e.Message);
        }
    }

    private static string Lower(RunState state) => state.ToString().ToLowerInvariant();
}
