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
        foreach (var parameter in parameters) Add(table, Short(parameter, parameters).ToUpperInvariant());
        Add(table, "LOSS FIRST → LAST");
        foreach (var pair in pairs) Add(table, Title(pair) + " BEFORE → AFTER");
        Add(table, "STEPS", "TIME", "SHA-256", "STATE");
        foreach (var trial in experiment.Trials)
        {
            var best = trial.Index == experiment.BestTrial;
            List<string> cells = [best ? "[yellow]★[/]" : "", trial.Index.ToString(CultureInfo.InvariantCulture)];
            cells.AddRange(parameters.Select(parameter => Markup.Escape(trial.Parameters.GetValueOrDefault(parameter, ""))));
            cells.Add(trial.LossHistory.Count == 0 ? "" : Arrow(trial.LossHistory[0], trial.LossHistory[^1]));
            cells.AddRange(pairs.Select(pair => Arrow(Metric(trial, pair + ".before"), Metric(trial, pair + ".after"))));
            cells.Add(string.Create(CultureInfo.InvariantCulture, $"{trial.Step}/{trial.Steps}"));
            cells.Add(trial.StartedAt is { } start ? Words.Span((trial.EndedAt ?? time.GetUtcNow()) - start) : "");
            cells.Add(trial.ParametersSha256 is { Length: > 8 } sha ? sha[..8] : trial.ParametersSha256 ?? "");
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

    /// <summary>The last part of a parameter's path, or all of it when two would look alike.</summary>
    public static string Short(string parameter, IReadOnlyCollection<string> all)
    {
        var last = Last(parameter);
        return all.Count(other => Last(other) == last) == 1 ? last : parameter;

        static string Last(string path) => path[(path.LastIndexOf('.') + 1)..];
    }

    private static List<string> Pairs(IEnumerable<TrialSnapshot> trials) =>
        [.. trials.SelectMany(trial => trial.Metrics.Keys).Where(key => key.EndsWith(".before", StringComparison.Ordinal)).Select(key => key[..^".before".Length]).Distinct().Order(StringComparer.Ordinal)];

    private static string Title(string metric) => metric.Replace("heldOut.", "HELD-OUT ", StringComparison.Ordinal).ToUpperInvariant();

    private static double? Metric(TrialSnapshot trial, string name) => trial.Metrics.TryGetValue(name, out var value) ? value : null;

    private static string Arrow(double? from, double? to) => (from, to) switch
    {
        (null, null) => "",
        ({ } a, null) => $"{Words.Number(a)} →",
        (null, { } b) => $"→ {Words.Number(b)}",
        ({ } a, { } b) => $"{Words.Number(a)} → {Words.Number(b)}",
    };
}
