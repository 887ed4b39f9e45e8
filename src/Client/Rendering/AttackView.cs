using System.Globalization;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>What attacks on a classifier came to, one trial a row.</summary>
internal static class AttackView
{
    /// <summary>Titles of the columns.</summary>
    public static IReadOnlyList<string> Titles { get; } = ["success", "by chance", "still its class, of the successes", "met the goal before → after", "largest move", "length", "seconds a success"];

    /// <summary>Nothing for experiments that attack none.</summary>
    public static void Show(Terminal terminal, IReadOnlyList<TrialSnapshot> trials)
    {
        var attacks = trials.Select(trial => (trial.Index, Outcome: AttackOutcome.Of(trial.Metrics, trial.Totals?.TrainingSeconds))).Where(attack => attack.Outcome is not null).ToList();
        if (attacks.Count == 0) return;
        terminal.Line();
        foreach (var (index, outcome) in attacks)
        {
            terminal.Line(Markup.Escape(string.Create(CultureInfo.InvariantCulture, $"Attack of trial {index}, {outcome!.Noises} noises")));
            foreach (var (title, cell) in Titles.Zip(Cells(outcome)).Where(pair => pair.Second.Length > 0))
                terminal.Line(Markup.Escape($"  {title,-36}{cell}"));
        }
    }

    /// <summary>A cell for each title; empty where nothing is known.</summary>
    public static IReadOnlyList<string> Cells(AttackOutcome outcome) =>
    [
        Text(outcome.Success), Text(outcome.Chance), Text(outcome.Recognised), string.Create(CultureInfo.InvariantCulture, $"{outcome.MetBefore} → {outcome.MetAfter} of {outcome.Noises}"),
        Words.Number(outcome.LargestMove), Words.Number(outcome.Move), outcome.SecondsPerSuccess is { } seconds ? Words.Number(seconds) : "",
    ];

    private static string Text(AttackShare? share) =>
        share is null ? "" : string.Create(CultureInfo.InvariantCulture, $"{share.Value:p1} ({share.Count} of {share.Of}; 95 %: {share.Low:p1} to {share.High:p1})");
}
