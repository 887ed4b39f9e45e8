using System.Globalization;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Progress;

/// <summary>An event as a sentence that says which trial it is about.</summary>
internal static class EventWords
{
    public static string Of(ExperimentEvent happened) =>
        happened.Trial is { } trial ? string.Create(CultureInfo.InvariantCulture, $"trial {trial}: {happened.Message}") : happened.Message;
}
