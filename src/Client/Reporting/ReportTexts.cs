using System.Globalization;
using System.Text.Json;

namespace AdjointDpm.Client.Reporting;

/// <summary>Trials as the report's sections tell of them.</summary>
internal static class ReportTexts
{
    /// <summary>Best first; then those without a value.</summary>
    public static IEnumerable<RecordedTrial> Ranked(this RecordedExperiment experiment) =>
        experiment.Report.Trials.OrderBy(trial => experiment.ObjectiveOf(trial) is { } value ? (experiment.Minimizes ? value : -value) : double.PositiveInfinity).ThenBy(trial => trial.Index);

    /// <summary>Its values, those that there is room for.</summary>
    public static string Parameters(this RecordedTrial trial)
    {
        const int Most = 6;
        return trial.Parameters.Count == 0 ? "as in the spec"
            : string.Join(", ", trial.Parameters.Take(Most).Select(pair => $"{pair.Key} = {pair.Value}")) + (trial.Parameters.Count > Most ? $", and {trial.Parameters.Count - Most} more" : "");
    }

    public static string Hash(string? sha) => sha is { Length: > 12 } ? sha[..12] + "…" : sha ?? "";

    /// <summary>A number of what a trial has cost; null where it was not recorded.</summary>
    public static double? CostOf(this RecordedTrial trial, string name) => trial.Cost.TryGetValue(name, out var value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : null;

    public static string Whole(this RecordedTrial trial, string name) => trial.CostOf(name)?.ToString("n0", CultureInfo.InvariantCulture) ?? "";

    /// <summary>Text of others that may be long.</summary>
    public static string Cut(string text, int most) => text.Length <= most ? text : text[..most] + "…";
}
