using System.Globalization;
using System.Xml.Linq;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Reporting;

/// <summary>All trials: as a table, by several objectives, and by what was searched.</summary>
internal static class ReportTrials
{
    /// <summary>Parts of a parameter's range, and trials that a part needs.</summary>
    private const int MostParts = 8, LeastInPart = 3;

    public static object[] Of(RecordedExperiment experiment, ReportSize size)
    {
        var (trials, metric) = (experiment.Ranked().ToList(), experiment.Report.Objective.Metric);
        var paths = trials.SelectMany(trial => trial.Parameters.Keys).Distinct().ToList();
        var shown = trials.Take(size.Rows(paths.Count + 6)).ToList();
        var table = Html.Table(["trial", "state", .. paths.Select(path => Words.Short(path, paths)), metric, "loss, first to last", "steps", "SHA-256"], shown.Select(trial => (object[])
        [
            trial.Index + (trial.Index == experiment.Best?.Index ? " ★" : ""), Words.State(trial.State) + (trial.Reason is { Length: > 0 } reason ? ": " + ReportTexts.Cut(reason, 200) : ""), .. paths.Select(path => trial.Parameters.GetValueOrDefault(path, "")),
            experiment.ObjectiveOf(trial) is { } value ? Words.Number(value) : "", trial.LossHistory.Count > 0 ? $"{Words.Number(trial.LossHistory[0])} → {Words.Number(trial.LossHistory[^1])}" : "", $"{trial.Step}/{trial.Steps}", ReportTexts.Hash(trial.ParametersSha256),
        ]));
        var content = new List<object> { shown.Count > 12 ? new XElement("details", new XElement("summary", $"{Words.Count(trials.Count, "trial")}, best first"), table) : table };
        if (trials.Count > shown.Count)
            content.Add(Note($"{trials.Count - shown.Count} further trials are in report.json."));
        content.AddRange(Fronts(experiment, size));
        var valued = trials.Where(trial => experiment.ObjectiveOf(trial) is not null && paths.All(trial.Parameters.ContainsKey)).ToList();
        if (valued.Count < 2 || paths.Count == 0)
            return [.. content];

        // Those that matter, where there are too many to be seen.
        var effects = paths.Select(path => Effect.Of(experiment, valued, path)).OrderByDescending(effect => effect.Spread).Take(size.Parameters).ToList();
        effects.Sort((a, b) => paths.IndexOf(a.Path).CompareTo(paths.IndexOf(b.Path)));
        var lines = Some(valued, size.Lines(effects.Count + 1));
        content.Add(new XElement("h3", "All parameters together"));
        content.Add(Chart.Parallel($"Parallel coordinates of {lines.Count} trials", [.. effects.Select(effect => (Words.Short(effect.Path, paths), effect.Words)), (metric, null)], [.. lines.Select(trial => (
            $"Trial {trial.Index}: {metric} {Words.Number(experiment.ObjectiveOf(trial)!.Value)}",
            effects.Select(effect => effect.At(trial)).Append(experiment.ObjectiveOf(trial)!.Value).ToArray(), trial.Index == experiment.Best?.Index))]));
        content.Add(new XElement("h3", $"{metric} by parameter"));
        var dots = Some(valued, size.Dots);
        content.Add(new XElement("div", new XAttribute("class", "charts"), effects.Select(effect => Chart.Means($"{metric} by {effect.Path}", effect.Path,
            [.. dots.Select(trial => new ChartDot($"Trial {trial.Index}: {Words.Number(experiment.ObjectiveOf(trial)!.Value)}", effect.At(trial), experiment.ObjectiveOf(trial)!.Value, trial.Index == experiment.Best?.Index))], effect.Parts, effect.Words))));
        content.Add(Note("Strokes: the mean of the trials in a part of the range, its standard error and their number n; dots: trials. The other parameters differ as well, so this is a marginal view, not an effect."
            + (dots.Count < valued.Count ? $" {dots.Count} of {valued.Count} trials are drawn, the means are of all." : "") + (effects.Count < paths.Count ? $" Of {paths.Count} parameters the {effects.Count} whose means differ most." : "")));
        return [.. content];
    }

    /// <summary>The best, and others evenly: trials come best first.</summary>
    private static List<RecordedTrial> Some(List<RecordedTrial> trials, int most) =>
        trials.Count <= most ? trials : [.. trials.Take(most / 2), .. Chart.Thin([.. trials.Skip(most / 2)], most - most / 2)];

    /// <summary>With several objectives: every other one by the first, and the trials that no other is better than in all.</summary>
    private static IEnumerable<XElement> Fronts(RecordedExperiment experiment, ReportSize size)
    {
        var (objectives, front) = (experiment.Objectives, (experiment.Report.Front ?? []).ToHashSet());
        var trials = experiment.Report.Trials.Where(trial => trial.State == RunState.Succeeded && objectives.All(metric => double.IsFinite(trial.Metrics.GetValueOrDefault(metric, double.NaN)))).ToList();
        if (objectives.Count < 2 || trials.Count == 0)
            yield break;
        yield return new XElement("h3", "Pareto front");
        // Those of the front are never left out.
        var shown = trials.OrderByDescending(trial => front.Contains(trial.Index)).Take(Math.Max(front.Count, size.Lines(1))).ToList();
        yield return new XElement("div", new XAttribute("class", "charts"), objectives.Skip(1).Take(6).Select(other => Chart.Front(objectives[0], other,
            [.. shown.Select(trial => new ChartDot($"Trial {trial.Index}: {string.Join(", ", objectives.Select(metric => $"{metric} {Words.Number(trial.Metrics[metric])}"))}", trial.Metrics[objectives[0]], trial.Metrics[other], front.Contains(trial.Index)))],
            connected: objectives.Count == 2)));
        yield return Html.Table(["trial of the front", .. objectives], shown.Where(trial => front.Contains(trial.Index)).OrderBy(trial => trial.Metrics[objectives[0]]).Take(20)
            .Select(trial => (object?[])[$"{trial.Index}: {trial.Parameters()}", .. objectives.Select(metric => Words.Number(trial.Metrics[metric]))]));
        yield return Note($"Coloured: the {Words.Count(front.Count, "trial")} that no other trial is better than in all objectives. Which of them to take is not for a number to say.");
    }

    private static XElement Note(string text) => new("p", new XAttribute("class", "note"), text);

    /// <summary>The objective by one parameter.</summary>
    /// <param name="Path">Parameter.</param>
    /// <param name="Words">Its distinct values when not all are numbers, or there are few of them.</param>
    /// <param name="Parts">Means of the parts of its range.</param>
    private sealed record Effect(string Path, IReadOnlyList<string>? Words, IReadOnlyList<ChartMean> Parts)
    {
        /// <summary>How far the means lie apart.</summary>
        public double Spread => Parts.Count < 2 ? 0 : Parts.Max(part => part.Mean) - Parts.Min(part => part.Mean);

        public static Effect Of(RecordedExperiment experiment, List<RecordedTrial> trials, string path)
        {
            var values = trials.Select(trial => trial.Parameters[path]).Distinct().ToList();
            var numbers = values.All(value => double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out _));
            IReadOnlyList<string>? words = !numbers ? [.. values.Order(StringComparer.Ordinal)] : values.Count <= 3 ? [.. values.OrderBy(value => double.Parse(value, CultureInfo.InvariantCulture))] : null;
            var effect = new Effect(path, words, []);
            var points = trials.Select(trial => (X: effect.At(trial), Y: experiment.ObjectiveOf(trial)!.Value)).OrderBy(point => point.X).ToList();
            return effect with { Parts = [.. Apart(points).Select(Mean)] };
        }

        public double At(RecordedTrial trial) =>
            Words is null ? double.Parse(trial.Parameters[Path], CultureInfo.InvariantCulture) : Enumerable.Range(0, Words.Count).First(i => Words[i] == trial.Parameters[Path]);

        /// <summary>Equal values stay together; of many values as many trials in each part, of few each value its own.</summary>
        private static List<List<(double X, double Y)>> Apart(List<(double X, double Y)> points)
        {
            var groups = points.GroupBy(point => point.X).Select(group => group.ToList()).ToList();
            if (groups.Count <= MostParts)
                return groups;
            var parts = new List<List<(double X, double Y)>>();
            var enough = Math.Max(LeastInPart, (points.Count + MostParts - 1) / MostParts);
            foreach (var group in groups)
                if (parts.Count > 0 && parts[^1].Count < enough)
                    parts[^1].AddRange(group);
                else
                    parts.Add(group);
            if (parts.Count > 1 && parts[^1].Count < LeastInPart)
            {
                parts[^2].AddRange(parts[^1]);
                parts.RemoveAt(parts.Count - 1);
            }
            return parts;
        }

        private static ChartMean Mean(List<(double X, double Y)> part)
        {
            var mean = part.Average(point => point.Y);
            var variance = part.Count < 2 ? 0 : part.Sum(point => (point.Y - mean) * (point.Y - mean)) / (part.Count - 1);
            return new(part[0].X, part[^1].X, mean, Math.Sqrt(variance / part.Count), part.Count);
        }
    }
}
