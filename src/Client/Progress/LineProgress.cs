using System.Globalization;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Progress;

/// <summary>A line an event, for logs and pipes: no control characters.</summary>
internal sealed class LineProgress(Terminal terminal, TimeProvider time) : IProgressReport
{
    private ExperimentSnapshot? _snapshot;

    public bool ShowsState => false;

    public void Refresh(ExperimentSnapshot experiment) => _snapshot = experiment;

    public void Happened(ExperimentEvent happened)
    {
        var clock = TimeZoneInfo.ConvertTime(happened.Time, time.LocalTimeZone).ToString("HH:mm:ss", CultureInfo.InvariantCulture);
        Write($"{clock} {Text(happened)}");
    }

    public void Notice(string text) => Write(text);

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private string Text(ExperimentEvent happened)
    {
        if (happened is not { Kind: EventKind.StepCommitted, Trial: { } trial, Step: { } step }) return EventWords.Of(happened);
        var steps = _snapshot?.Trials.FirstOrDefault(t => t.Index == trial)?.Steps;
        var metrics = happened.Metrics is null ? "" : string.Concat(happened.Metrics.OrderByDescending(metric => metric.Key == "loss").Select(metric => $"  {metric.Key} {Words.Number(metric.Value)}"));
        return string.Create(CultureInfo.InvariantCulture, $"trial {trial} step {step}{(steps is null ? "" : $"/{steps}")}{metrics}");
    }

    // One line whatever the message holds.
    private void Write(string text) => terminal.Error.Raw(text.ReplaceLineEndings(" "));
}
