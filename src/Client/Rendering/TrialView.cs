using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>One trial: its values, a curve of every metric, its pictures.</summary>
internal static class TrialView
{
    private const int CurveWidth = 32;

    private sealed record Curve(string Name, IReadOnlyList<double> Values);

    public static void Show(ClientContext context, ExperimentSnapshot experiment, TrialSnapshot trial, IReadOnlyList<TrialStep> steps)
    {
        var terminal = context.Terminal;
        var (id, time) = (experiment.Summary.Id, context.Time);
        terminal.Line($"[bold]{Markup.Escape(id)}/{trial.Index}[/]  {Words.StateMarkup(trial.State)}  step {trial.Step}/{trial.Steps}{(trial.StartedAt is { } start ? $"  {Words.Span((trial.EndedAt ?? time.GetUtcNow()) - start)}" : "")}{(trial.Index == experiment.BestTrial ? "  [yellow]★[/] the best" : "")}");
        if (trial.Reason is { Length: > 0 } reason) terminal.Line($"[red]{Markup.Escape(reason)}[/]");
        foreach (var parameter in trial.Parameters) terminal.Line(Markup.Escape($"{parameter.Key} = {parameter.Value}"));
        var curves = steps.SelectMany(step => step.Metrics.Keys).Distinct().OrderBy(name => name != "loss").ThenBy(name => name, StringComparer.Ordinal)
            .Select(name => new Curve(name, [.. steps.Where(step => step.Metrics.ContainsKey(name)).Select(step => step.Metrics[name])]))
            .Concat(steps.SelectMany(step => step.Profile?.HeldOut?.Keys ?? []).Distinct().Order(StringComparer.Ordinal)
                .Select(name => new Curve("held-out " + name, [.. steps.Where(step => step.Profile?.HeldOut?.ContainsKey(name) == true).Select(step => step.Profile!.HeldOut![name])]))).ToList();
        if (curves.Count > 0)
        {
            terminal.Line();
            Listing.Write(terminal, ListFormat.Table, curves, [new("METRIC", curve => curve.Name), new("FIRST", curve => Words.Number(curve.Values[0])), new("LAST", curve => Words.Number(curve.Values[^1])), new("BY STEP", curve => Bar.Curve(curve.Values, CurveWidth))], curve => curve.Name);
        }

        if (steps is [.., { Profile.AdjointNorms: { Count: > 1 } norms } newest])
            terminal.Line($"{Environment.NewLine}Gradient from noise to sample at step {newest.Step}  {Bar.Curve(norms, norms.Count)}  {Words.Number(norms[0])} … {Words.Number(norms[^1])}");
        AttackView.Show(terminal, [trial]);
        if (trial.ParametersSha256 is { } sha) terminal.Line($"{Environment.NewLine}Parameters {sha}");
    }
}
