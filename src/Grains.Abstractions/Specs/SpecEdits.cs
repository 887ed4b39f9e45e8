using System.Globalization;

namespace AdjointDpm.Grains.Specs;

/// <summary>Changes to the search of an experiment that runs: what leaves the trials that have begun what they are.</summary>
internal static class SpecEdits
{
    private static readonly string[] Editable = ["maxTrials", "maxConcurrentTrials", "parameters", "budget", "objective.target"];

    /// <summary>The canonical JSON with the settings.</summary>
    /// <param name="specJson">Canonical JSON that holds until now.</param>
    /// <param name="settings">Paths and values, in order.</param>
    /// <param name="begun">Trials that have begun.</param>
    /// <exception cref="ArgumentException">A path may not be edited, or a value does not fit; the message says what would.</exception>
    public static string Apply(string specJson, IReadOnlyList<KeyValuePair<string, string>> settings, int begun)
    {
        if (settings.Count == 0)
            throw new ArgumentException("An edit needs at least one path=value, such as maxTrials=40.");
        foreach (var (path, _) in settings)
        {
            if (!Editable.Any(root => path == root || path.StartsWith(root + ".", StringComparison.Ordinal) || path.StartsWith(root + "[", StringComparison.Ordinal)))
                throw new ArgumentException($"'{path}' cannot be edited: trials that have begun would be other than they are said to be.{(Suggestion.Nearest(path, Editable) is { } near ? $" Did you mean '{near}'?" : "")} What can: {string.Join(", ", Editable)}. For anything else submit the experiment anew.");
        }
        try
        {
            var (before, json) = (ExperimentSpecJson.Deserialize(specJson), settings.Aggregate(specJson, (spec, setting) => SpecOverrides.Set(spec, setting.Key, setting.Value)));
            var after = ExperimentSpecJson.Deserialize(json);
            if (after.MaxTrials < begun)
                throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"maxTrials = {after.MaxTrials} is too few: {begun} trials have begun. Write {begun} or more, or cancel trials."));
            foreach (var (path, parameter) in after.Parameters)
                Narrower(path, before.Parameters[path], parameter);
            return ExperimentSpecJson.Serialize(after);
        }
        catch (SpecException e)
        {
            // Without what caused it, which does not travel to clients.
            throw new ArgumentException(e.Message);
        }
    }

    private static void Narrower(string path, ParameterSpec before, ParameterSpec after)
    {
        if (before.Distribution != after.Distribution || (before.Values is null) != (after.Values is null))
            throw new ArgumentException($"The distribution of '{path}' cannot be edited: what was learnt would be about other numbers. Submit the experiment anew.");
        if (after.Values?.FirstOrDefault(value => !before.Values!.Contains(value)) is { } added)
            throw new ArgumentException($"'{added}' is none of the values of '{path}' so far ({string.Join(", ", before.Values!)}). A search can be narrowed, not widened: submit the experiment anew.");
        if (after.Min < before.Min || after.Max > before.Max)
            throw new ArgumentException(string.Create(CultureInfo.InvariantCulture, $"'{path}' would be searched from {after.Min:g6} to {after.Max:g6}, but was from {before.Min:g6} to {before.Max:g6}. A search can be narrowed, not widened: submit the experiment anew."));
    }
}
