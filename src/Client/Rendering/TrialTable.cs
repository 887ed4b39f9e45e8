using System.Globalization;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>The trials of an experiment, one a row.</summary>
internal static class TrialTable
{
    public static Table Of(ExperimentSnapshot experiment, TimeProvider time)
    {
        var parameters = experiment.Trials.SelectMany(trial => trial.Parameters.Keys).Distinct().ToList();
        var pairs = Pairs(experiment.Trials);
        var table = Plain();
        Add(table, "", "TRIAL");
        foreach (var parameter in parameters) Add(table, Spaced(Words.Short(parameter, parameters)).ToUpperInvariant());
        Add(table, "LOSS\nfirst → last");
        foreach (var pair in pairs) Add(table, Title(pair).ToUpperInvariant() + "\nbefore → after");
        Add(table, "STEPS", "TIME", "SHA-256", "STATE");
        foreach (var trial in experiment.Trials)
        {
            var best = trial.Index == experiment.BestTrial;
            List<string> cells = [best ? "[yellow]★[/]" : "", trial.Index.ToString(CultureInfo.InvariantCulture)];
            cells.AddRange(parameters.Select(parameter => Markup.Escape(trial.Parameters.GetValueOrDefault(parameter, ""))));
            cells.Add(Loss(trial));
            cells.AddRange(pairs.Select(pair => Arrow(trial, pair)));
            cells.AddRange([Steps(trial), Took(trial, time), Sha(trial)]);
            cells.Add(Words.StateMarkup(trial.State));
            table.AddRow(cells.Select(cell => new Markup(cell)).ToArray());
        }

        return table;
    }

    /// <summary>A table without lines, as kubectl prints them.</summary>
    public static Table Plain() => new Table { Border = TableBorder.None, ShowRowSeparators = false }.Collapse();

    public static void Add(Table table, params ReadOnlySpan<string> titles)
    {
        foreach (var title in titles)
            table.AddColumn(new TableColumn(new Markup($"[bold]{Markup.Escape(title)}[/]")) { NoWrap = true, Padding = new Padding(0, 0, 2, 0) });
    }

    /// <summary>The same, a few lines a trial, for terminals that the table does not fit.</summary>
    public static IEnumerable<string> Stacked(ExperimentSnapshot experiment, TimeProvider time)
    {
        var pairs = Pairs(experiment.Trials);
        foreach (var trial in experiment.Trials)
        {
            var sha = Sha(trial) is { Length: > 0 } text ? $"  sha {text}" : "";
            yield return $"{(trial.Index == experiment.BestTrial ? "[yellow]★[/]" : " ")} [bold]trial {trial.Index}[/]  {Words.StateMarkup(trial.State)}  {Steps(trial)} steps  {Took(trial, time)}{sha}";
            foreach (var (path, value) in trial.Parameters) yield return Markup.Escape($"    {path} = {value}");
            if (Loss(trial) is { Length: > 0 } loss) yield return $"    loss {loss}";
            foreach (var pair in pairs.Where(pair => Arrow(trial, pair).Length > 0)) yield return $"    {Title(pair)} {Arrow(trial, pair)}";
        }
    }

    private static string Loss(TrialSnapshot trial) => trial.LossHistory.Count == 0 ? "" : Arrow(trial.LossHistory[0], trial.LossHistory[^1]);

    private static string Steps(TrialSnapshot trial) => string.Create(CultureInfo.InvariantCulture, $"{trial.Step}/{trial.Steps}");

    private static string Took(TrialSnapshot trial, TimeProvider time) => trial.StartedAt is { } start ? Words.Span((trial.EndedAt ?? time.GetUtcNow()) - start) : "";

    private static string Sha(TrialSnapshot trial) => trial.ParametersSha256 is { Length: > 8 } sha ? sha[..8] : trial.ParametersSha256 ?? "";

    /// <summary>Metrics measured before and after. The same numbers under two names, such as a loss that is the only one, are shown once.</summary>
    private static List<string> Pairs(IReadOnlyList<TrialSnapshot> trials)
    {
        // Attacks have lines of their own.
        var names = trials.SelectMany(trial => trial.Metrics.Keys).Where(key => key.EndsWith(".before", StringComparison.Ordinal) && !key.Contains("audit.", StringComparison.Ordinal)).Select(key => key[..^".before".Length]).Distinct();
        return [.. names
            .OrderByDescending(name => name.EndsWith("loss", StringComparison.Ordinal)).ThenByDescending(name => name.StartsWith("heldOut.", StringComparison.Ordinal)).ThenBy(name => name, StringComparer.Ordinal)
            .DistinctBy(name => string.Join(' ', trials.Select(trial => Arrow(trial, name))))
            .Order(StringComparer.Ordinal)];
    }

    private static string Title(string metric) => Spaced(metric.Replace("heldOut.", "held-out ", StringComparison.Ordinal));

    /// <summary>learningRate as learning rate.</summary>
    private static string Spaced(string name) => string.Concat(name.Select((c, i) => i > 0 && char.IsUpper(c) && !char.IsUpper(name[i - 1]) ? $" {char.ToLowerInvariant(c)}" : $"{c}"));

    private static string Arrow(TrialSnapshot trial, string pair) => Arrow(Metric(trial, pair + ".before"), Metric(trial, pair + ".after"));

    private static double? Metric(TrialSnapshot trial, string name) => trial.Metrics.TryGetValue(name, out var value) ? value : null;

    private static string Arrow(double? from, double? to) => (from, to) switch
    {
        (null, null) => "",
        ({ } a, null) => $"{Words.Number(a)} →",
        (null, { } b) => $"→ {Words.Number(b)}",
        ({ } a, { } b) => $"{Words.Number(a)} → {Words.Number(b)}",
    };
}
