using System.Globalization;
using AdjointDpm.Grains.Trials;
using Orleans.Storage;

namespace AdjointDpm.Grains.Experiments;

// What happened: told, written down and listed.
internal sealed partial class ExperimentRun
{
    private void EmitStarted(int trial, IReadOnlyDictionary<string, string> values, int? origin = null) =>
        Emit(EventKind.TrialStarted, "Started" + Describe(values) + (origin is null ? "" : string.Create(CultureInfo.InvariantCulture, $", with the parameters of trial {origin}")) + ".", trial, durable: true, values: _search!.Learns ? values : null, origin: origin);

    private void EmitEnd() => Emit(EventKind.ExperimentEnded, $"{State.State}. {State.Reason ?? BestLine()}", durable: true);

    private string BestLine() => _trials!.Best() is { } best
        ? string.Create(CultureInfo.InvariantCulture, $"Best is trial {best}: {_spec!.Ranked()[0].Metric} = {_trials[best].Metrics[_spec.Ranked()[0].Metric]:g6}{Others()}.")
        : $"No trial has the metric '{_spec!.Ranked()[0].Metric}'.";

    private string Others() => _trials!.Front() is { Count: > 1 } front ? string.Create(CultureInfo.InvariantCulture, $"; the Pareto front has {front.Count} trials") : "";

    private void Emit(EventKind kind, string message, int? trial = null, int? step = null, IReadOnlyDictionary<string, double>? metrics = null, TrialSnapshot? final = null, TrialTotals? totals = null, bool durable = false, IReadOnlyDictionary<string, string>? values = null, int? origin = null, string? specJson = null)
    {
        var line = new JournalLine
        {
            Event = new ExperimentEvent { Sequence = _events.Count + 1, Time = time.GetUtcNow(), Kind = kind, Trial = trial, Step = step, Message = message, Metrics = metrics },
            Trial = final,
            Totals = totals,
            Values = values,
            Origin = origin,
            SpecJson = specJson,
        };
        var written = _journal!.AppendAsync(line, durable);
        Apply(line);
        _events.Add(line.Event);
        _telling = TellAsync(_telling, written, _events.Count);
    }

    /// <summary>Lets clients know of the events up to one, once it is written; in the order of the events.</summary>
    private async Task TellAsync(Task before, Task written, int count)
    {
        await before;
        if (_told < count - 1)
            return;
        try
        {
            await written;
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            // What is here is more than what is on the disk; another activation begins with that.
            LogNotWritten(logger, Id, count, e.Message);
            activation.Deactivate();
            return;
        }
        _told = count;
        var news = _news;
        _news = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        news.SetResult();
    }

    private async Task WriteAsync()
    {
        await _writing.WaitAsync();
        try
        {
            await storage.WriteStateAsync();
        }
        catch (InconsistentStateException)
        {
            activation.Deactivate();
            throw;
        }
        finally
        {
            _writing.Release();
        }
    }

    private void EmitSubmitted()
    {
        if (_events.Count == 0)
            Emit(EventKind.Submitted, Plural(_trials!.Count, "trial") + " planned.", durable: true);
    }

    private async Task ListAsync()
    {
        await PutSummaryAsync();
        _listed = true;
    }

    private Task PutSummaryAsync() => activation.Grains.GetGrain<IExperimentDirectoryGrain>(IExperimentDirectoryGrain.Key).PutAsync(Summary());

    private ExperimentSummary Summary() => new()
    {
        Id = Id,
        Name = State.Submission!.Name,
        State = State.Paused && !IsEnded ? RunState.Paused : State.State,
        Trials = _trials!.Count,
        TrialsEnded = _trials.Ended,
        SubmittedAt = State.SubmittedAt,
        EndedAt = State.EndedAt,
        Project = State.Project,
        Concurrent = _spec?.MaxConcurrentTrials,
        Labels = State.Submission.Labels is { Count: > 0 } labels ? labels : null,
    };

    private static string Describe(IReadOnlyDictionary<string, string> values) =>
        values.Count > 0 ? " with " + string.Join(", ", values.Select(pair => $"{pair.Key} = {pair.Value}")) : "";

    private static string Ending(TrialSnapshot trial) => trial.State == RunState.Succeeded ? $"Succeeded after {Plural(trial.Step, "step")}." : $"{trial.State}: {trial.Reason}";

    private static string Describe(StepRecord step, int steps) => string.Create(CultureInfo.InvariantCulture,
        $"Step {step.Step} of {steps}: loss {step.Metrics.GetValueOrDefault("loss"):g6}, gradient norm {step.Metrics.GetValueOrDefault("gradientNorm"):g4}.");

    private static string Plural(int count, string noun) => string.Create(CultureInfo.InvariantCulture, $"{count} {noun}{(count == 1 ? "" : "s")}");
}
