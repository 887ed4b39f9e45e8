using System.Globalization;
using AdjointDpm.Client.Json;
using AdjointDpm.Grains.Audit;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>The audit of an experiment for people: two lines a trial, and what does not hold.</summary>
internal static class AuditView
{
    public static void Show(Terminal terminal, AuditDocument document)
    {
        foreach (var trial in document.Trials) Show(terminal, trial);
        if (document.Trials.Count == 0) terminal.Line("No trial has recorded anything yet.");
        else if (document.Holds) terminal.Line($"[green]The ledger of {Markup.Escape(document.Experiment)} holds:[/] every shard of every step counted exactly once.");
        else terminal.Line($"[red]The ledger of {Markup.Escape(document.Experiment)} does not hold.[/] First: {Markup.Escape(document.FirstViolation ?? "")}");
    }

    private static void Show(Terminal terminal, TrialAudit trial)
    {
        terminal.Line(string.Create(CultureInfo.InvariantCulture,
            $"{Markup.Escape(trial.Run)}  {trial.Steps} of {trial.StepsPlanned} steps × {trial.Shards} shards: {trial.Accepted} contributions of {trial.Weight} samples counted; not counted: {trial.Duplicates} duplicate, {trial.Stale} stale, {trial.Mismatches} mismatched"));
        var head = trial.Head.Length > 12 ? trial.Head[..12] + "…" : "none";
        var compared = trial.HeadSource is { } source ? $"equal to {source}" : "no committed state found to compare with";
        terminal.Line($"{new string(' ', trial.Run.Length)}  {Words.Count(trial.Coordinators, "coordinator")}, {Words.Count(trial.Redone, "step")} done again; head {head}, {(trial.Holds ? compared : "not proven")}");
        foreach (var violation in trial.Violations) terminal.Line($"  [red]✗[/] {Markup.Escape(violation)}");
    }
}
