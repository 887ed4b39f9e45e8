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
        if (experiment.Reason is { Length: > 0 } reason) terminal.Line($"[red]{Markup.Escape(reason)}[/]");
        terminal.Line();
        var table = TrialTable.Of(experiment, time);
        if (terminal.Out.Fits(table)) terminal.Write(table);
        else foreach (var line in TrialTable.Stacked(experiment, time)) terminal.Line(line);
        Reasons(terminal, experiment);
        Best(terminal, experiment);
        ProofView.Summaries(terminal, experiment);
        foreach (var trial in experiment.Trials.Where(trial => trial.LeanFrom is not null))
            terminal.Line($"[yellow]![/] A worker ran out of memory in trial {trial.Index}: from step {trial.LeanFrom} on its gradients were computed one sample at a time");
    }

    /// <summary>Experiments, one a row.</summary>
    public static Table List(IReadOnlyList<ExperimentSummary> experiments, TimeProvider time)
    {
        var table = TrialTable.Plain();
        TrialTable.Add(table, "ID", "NAME", "STATE", "TRIALS", "SUBMITTED", "TIME");
        foreach (var experiment in experiments)
        {
            table.AddRow(
                new Markup(Markup.Escape(experiment.Id)),
                new Markup(Markup.Escape(experiment.Name)),
                new Markup(Words.StateMarkup(experiment.State)),
                new Markup($"{experiment.TrialsEnded}/{experiment.Trials}"),
                new Markup(Words.Time(experiment.SubmittedAt, time.LocalTimeZone)),
                new Markup(Words.Span((experiment.EndedAt ?? time.GetUtcNow()) - experiment.SubmittedAt)));
        }

        return table;
    }

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
        var objective = Objective(experiment.SpecJson);
        var value = objective is not null && best.Metrics.TryGetValue(objective, out var number) ? $", {objective} {Words.Number(number)}" : "";
        var parameters = best.Parameters.Count == 0 ? "" : " with " + string.Join(", ", best.Parameters.Select(parameter => $"{parameter.Key}={parameter.Value}"));
        terminal.Line();
        terminal.Line($"[yellow]★[/] Best: trial {index}{Markup.Escape(parameters + value)}");
        if (experiment.Front is { Count: > 1 } front)
            terminal.Line($"  No trial is better in all objectives than any of {string.Join(", ", front)} (the Pareto front)");
    }

    private static string? Objective(string specJson)
    {
        try
        {
            return ExperimentSpecJson.Deserialize(specJson).Ranked()[0].Metric;
        }
        catch (SpecException)
        {
            return null; // submitted by another version; the table says enough
        }
    }
}
