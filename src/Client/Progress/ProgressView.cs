using System.Globalization;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace AdjointDpm.Client.Progress;

/// <summary>The picture of a running experiment: one bar for all, one for each running trial.</summary>
internal static class ProgressView
{
    private const int MostRows = 8;

    public static IRenderable Of(ExperimentProgress progress, int width)
    {
        if (progress.Snapshot is not { } experiment) return new Text("");
        var bar = Math.Clamp(width - 60, 10, 40);
        var (done, planned) = (progress.StepsDone, progress.StepsPlanned);
        var rows = new List<IRenderable>
        {
            Row($"[bold]{Markup.Escape(experiment.Summary.Id)}[/]  {progress.TrialsEnded} of {Words.Count(experiment.Summary.Trials, "trial")} ended"
                + (progress.Remaining is { } left ? $"  eta {Words.Span(left)}" : "")),
            Row($"{"all",-9} {Bar.Of(planned == 0 ? 0 : (double)done / planned, bar)} {Percent(done, planned)}  step {done}/{planned}"),
        };
        var running = experiment.Trials.Where(trial => trial.State == RunState.Running).ToList();
        rows.AddRange(running.Take(MostRows).Select(trial => Row(Trial(trial, progress, bar))));
        if (running.Count > MostRows) rows.Add(Row($"and {running.Count - MostRows} more"));
        return new Rows(rows);
    }

    private static string Trial(TrialSnapshot trial, ExperimentProgress progress, int bar)
    {
        var step = progress.Step(trial);
        var loss = progress.Loss(trial) is { } value ? $"  loss {Words.Number(value)}" : "";
        // Newer steps than the snapshot's mean that it trains by now.
        var phase = step == trial.Step && trial.Phase is { Length: > 0 } and not "training" ? $"  {Markup.Escape(trial.Phase)}" : "";
        var curve = Bar.Curve(trial.LossHistory, 10);
        return string.Create(CultureInfo.InvariantCulture, $"trial {trial.Index,-3} {Bar.Of(trial.Steps == 0 ? 0 : (double)step / trial.Steps, bar)} {Percent(step, trial.Steps)}  step {step}/{trial.Steps}{loss} [grey]{curve}[/]{phase}");
    }

    private static string Percent(int done, int planned) =>
        ((planned == 0 ? 0 : (int)(100.0 * done / planned)).ToString(CultureInfo.InvariantCulture) + "%").PadLeft(4);

    private static Markup Row(string markup) => new(markup) { Overflow = Overflow.Crop };
}
