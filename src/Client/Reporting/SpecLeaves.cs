using System.Globalization;
using System.Text.Json.Nodes;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.Reporting;

/// <summary>The values of specs, to compare them by.</summary>
internal static class SpecLeaves
{
    /// <summary>Every value of a JSON tree with its path.</summary>
    public static IEnumerable<(string Path, string Value)> Of(JsonNode? node, string path = "") => node switch
    {
        JsonObject map when map.Count > 0 => map.SelectMany(pair => Of(pair.Value, path.Length == 0 ? pair.Key : $"{path}.{pair.Key}")),
        JsonArray list when list.Any(item => item is JsonObject) => list.SelectMany((item, i) => Of(item, string.Create(CultureInfo.InvariantCulture, $"{path}[{i}]"))),
        _ => [(path, node?.ToJsonString(ExperimentSpecJson.Options) ?? "null")],
    };

    /// <summary>Paths at which two specs differ, with both values; a dash where one has none.</summary>
    public static IReadOnlyList<(string Path, string A, string B)> Differences(JsonNode? a, JsonNode? b)
    {
        var (left, right) = (Of(a).ToDictionary(leaf => leaf.Path, leaf => leaf.Value), Of(b).ToDictionary(leaf => leaf.Path, leaf => leaf.Value));
        return [.. left.Keys.Union(right.Keys).Order(StringComparer.Ordinal).Select(path => (path, left.GetValueOrDefault(path, "–"), right.GetValueOrDefault(path, "–"))).Where(leaf => leaf.Item2 != leaf.Item3)];
    }
}
