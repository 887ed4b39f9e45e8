using System.Globalization;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>An experiment in full, and lists of experiments.</summary>
internal static class ExperimentView
{
    /// <summary>Heading, trials, why some failed, the best one.</summary>
    public static void Show(Terminal terminal, ExperimentSnapshot experiment, TimeProvider time)
    {
        var summary = experiment.Summary;
        terminal.Line($"[bold]{Markup.Escape(summary.Id)}[/]  {Words.StateMarkup(summary.State)}  {summary.TrialsEnded} of {Words.Count(summary.Trials, "trial")} ended  "
            + $"submitted {Words.Time(summary.SubmittedAt, time.LocalTimeZone)}  {Words.Span((summary.EndedAt ?? time.GetUtcNow()) - summary.SubmittedAt)}");
        if (summary.Labels is { Count: > 0 }) terminal.Line($"[grey]{Markup.Escape(LabelsOf(summary))}[/]");
        if (experiment.Reason is { Length: > 0 } reason) terminal.Line($"[red]{Markup.Escape(reason)}[/]");
        terminal.Line();
        var table = TrialTable.Of(experiment, time);
        if (terminal.Out.Fits(table)) terminal.Write(table);
        else foreach (var line in TrialTable.Stacked(experiment, time)) terminal.Line(line);
        Reasons(terminal, experiment);
        Best(terminal, experiment);
        AttackView.Show(terminal, experiment.Trials);
        ProofView.Summaries(terminal, experiment);
        foreach (var (trial, notice) in experiment.Trials.SelectMany(trial => trial.Notices(), (trial, notice) => (trial.Index, notice)))
            terminal.Line($"[yellow]![/] Trial {trial}: {Markup.Escape(notice)}");
    }

    /// <summary>Columns of a list of experiments.</summary>
    public static IReadOnlyList<ListColumn<ExperimentSummary>> Columns(TimeProvider time) =>
    [
        new("ID", experiment => experiment.Id),
        new("NAME", experiment => experiment.Name),
        new("STATE", experiment => Words.State(experiment.State), experiment => Words.StateMarkup(experiment.State)),
        new("TRIALS", experiment => $"{experiment.TrialsEnded}/{experiment.Trials}"),
        new("SUBMITTED", experiment => experiment.SubmittedAt.ToString("o", CultureInfo.InvariantCulture), experiment => Words.Time(experiment.SubmittedAt, time.LocalTimeZone)),
        new("ENDED", experiment => experiment.EndedAt?.ToString("o", CultureInfo.InvariantCulture) ?? "", experiment => experiment.EndedAt is { } end ? Words.Time(end, time.LocalTimeZone) : "", Wide: true),
        new("TIME", experiment => ((experiment.EndedAt ?? time.GetUtcNow()) - experiment.SubmittedAt).TotalSeconds.ToString("0.###", CultureInfo.InvariantCulture), experiment => Words.Span((experiment.EndedAt ?? time.GetUtcNow()) - experiment.SubmittedAt)),
        new("LABELS", LabelsOf, Wide: true),
    ];

    /// <summary>Labels as people write them.</summary>
    public static string LabelsOf(ExperimentSummary experiment) => string.Join(' ', (experiment.Labels ?? new Dictionary<string, string>()).OrderBy(label => label.Key, StringComparer.Ordinal).Select(label => $"{label.Key}={label.Value}"));

    private static void Reasons(Terminal terminal, ExperimentSnapshot experiment)
    {
        var failed = experiment.Trials.Where(trial => trial.Reason is { Length: > 0 } && trial.Reason != experiment.Reason).ToList();
        if (failed.Count == 0) return;
        terminal.Line();
        // One reason often strikes many trials; it is told once.
        foreach (var group in failed.GroupBy(trial => (trial.State, trial.Reason)))
        {
            var trials = string.Join(", ", group.Select(trial => trial.Index));
            terminal.Line($"{(group.Count() == 1 ? "trial" : "trials")} {trials} {Words.StateMarkup(group.Key.State)}: {Markup.Escape(group.Key.Reason!)}");
        }
    }

    private static void Best(Terminal terminal, ExperimentSnapshot experiment)
    {
        if (experiment.BestTrial is not { } index || experiment.Trials.FirstOrDefault(trial => trial.Index == index) is not { } best) return;
        var objective = Objectives(experiment.SpecJson) is [var first, ..] ? first : null;
        var value = objective is not null && best.Metrics.TryGetValue(objective, out var number) ? $", {objective} {Words.Number(number)}" : "";
        var parameters = best.Parameters.Count == 0 ? "" : " with " + string.Join(", ", best.Parameters.Select(parameter => $"{parameter.Key}={parameter.Value}"));
        terminal.Line();
        terminal.Line($"[yellow]★[/] Best: trial {index}{Markup.Escape(parameters + value)}");
        if (experiment.Front is { Count: > 1 } front)
            terminal.Line($"  No trial is better in all objectives than any of {string.Join(", ", front)} (the Pareto front)");
    }

    /// <summary>Metrics of the objectives, the first first; none for a spec of another version.</summary>
    public static IReadOnlyList<string> Objectives(string specJson)
    {
        try
        {
            return [.. ExperimentSpecJson.Deserialize(specJson).Ranked().Select(objective => objective.Metric)];
        }
        catch (SpecException)
        {
            return []; // submitted by another version; the table says enough
        }
    }
}
