using System.Globalization;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>The proof of a gradient for people.</summary>
internal static class ProofView
{
    public static void Show(Terminal terminal, GradientProofReport proof)
    {
        terminal.Line($"[bold]Gradient {Markup.Escape(proof.Method)}[/] of {Markup.Escape(proof.Sampler)}, {Words.Count(proof.Steps, "step")}, {Words.Count(proof.Samples, "sample")}, float64");
        terminal.Line();
        var groups = TrialTable.Plain();
        TrialTable.Add(groups, "AGAINST THE UNROLLED GRADIENT", "COSINE", "NORM RATIO", "ERROR");
        foreach (var row in proof.Groups) groups.AddRow(Cells(row, row.Name));
        foreach (var row in proof.States) groups.AddRow(Cells(row, string.Create(CultureInfo.InvariantCulture, $"{row.Name}  ρ = {row.Rho:g4}")));
        terminal.Write(groups);
        terminal.Line();
        var differences = TrialTable.Plain();
        TrialTable.Add(differences, "ALONG A DIRECTION OF", "FINITE DIFFERENCE", "±", "UNROLLED", "CONFIGURED");
        foreach (var row in proof.Differences)
            differences.AddRow(new[] { row.Name, Value(row.FiniteDifference), Words.Error(row.Uncertainty), Value(row.Unrolled), Value(row.Configured) }.Select(cell => new Markup(Markup.Escape(cell))).ToArray());
        terminal.Write(differences);
        terminal.Line();
        terminal.Line($"Cost: {proof.ForwardNfe} evaluations forward, {proof.BackwardNfe} backward, {proof.Vjps} vector–Jacobian products; {proof.DifferenceNfe} evaluations for the differences.");
        terminal.Line(proof is { IsEstimate: true, Passed: true } ? $"[green]MEASURED[/] {Markup.Escape(proof.Method)} is an estimate for training, of one draw: it does not claim the gradient of the sampler, and is not held to it."
            : proof.Passed ? $"[green]PASS[/] {(proof.Exact ? "The gradient is that of the sampler as it is run." : "The approximation is within what the spec accepts.")}" : "[red]FAIL[/]");
        foreach (var finding in proof.Findings) terminal.Line($"  [red]✗[/] {Markup.Escape(finding)}");
    }

    /// <summary>One line for all trials that began with the same proof.</summary>
    public static void Summaries(Terminal terminal, ExperimentSnapshot experiment)
    {
        foreach (var group in experiment.Trials.Where(trial => trial.Proof is not null).GroupBy(trial => (trial.Proof!.Method, trial.Proof.Passed)))
        {
            var worst = group.Select(trial => trial.Proof!).MinBy(proof => double.IsNaN(proof.Cosine) ? double.NegativeInfinity : -proof.RelativeError)!;
            var trials = $"{(group.Count() == 1 ? "trial" : "trials")} {string.Join(", ", group.Select(trial => trial.Index))}";
            terminal.Line(worst.IsEstimate && group.Key.Passed
                ? string.Create(CultureInfo.InvariantCulture, $"[blue]≈[/] Gradient {Markup.Escape(worst.Method)} in {trials} is an estimate: cosine {worst.Cosine:f3} and norm ratio {worst.NormRatio:g3} to the unrolled gradient, where it is worst")
                : group.Key.Passed
                ? string.Create(CultureInfo.InvariantCulture, $"[green]✓[/] Gradient {Markup.Escape(worst.Method)} proven in {trials}: within {Words.Error(worst.RelativeError)} of the unrolled gradient, and finite differences agree")
                : string.Create(CultureInfo.InvariantCulture, $"[yellow]![/] Gradient {Markup.Escape(worst.Method)} in {trials}: {Markup.Escape(worst.Finding ?? "not proven")}"));
        }
    }

    private static Markup[] Cells(ProofAgreement row, string name) =>
    [
        new(Markup.Escape(name)), new(row.Cosine.ToString("f8", CultureInfo.InvariantCulture)),
        new(row.NormRatio.ToString("g6", CultureInfo.InvariantCulture)), new(Words.Error(row.RelativeError)),
    ];

    private static string Value(double value) => value.ToString("g9", CultureInfo.InvariantCulture);
}
