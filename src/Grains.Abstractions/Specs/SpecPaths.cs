using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>A path that a spec names.</summary>
/// <param name="Name">Where it stands, such as <c>losses[0].classifier</c>.</param>
/// <param name="Kind">What it must lead to.</param>
/// <param name="Path">The path itself.</param>
internal readonly record struct NamedPath(string Name, ExistingPathKind Kind, string Path);

/// <summary>The paths of a spec, wherever they stand in it, values of searched ones included.</summary>
internal static class SpecPaths
{
    /// <param name="specJson">Canonical JSON of a spec, as <see cref="ExperimentSpecJson.Serialize"/> writes it: in other spellings of the same paths would hide.</param>
    public static IEnumerable<NamedPath> Of(string specJson)
    {
        var node = JsonNode.Parse(specJson)!.AsObject();
        foreach (var found in In(SpecShape.Of<ExperimentSpec>(), node, ""))
            yield return found;
        foreach (var (path, parameter) in node["parameters"] as JsonObject ?? [])
            if (SpecPath.Resolve(path, node, out _) is ScalarShape { Path: { } kind } && parameter?["values"] is JsonArray values)
                for (var i = 0; i < values.Count; i++)
                    yield return new(SpecPath.Item(SpecPath.Entry("parameters", path) + ".values", i), kind, values[i]!.GetValue<string>());
    }

    /// <summary>Why the first path that leads nowhere on this machine does so; null when all lead somewhere.</summary>
    public static string? Missing(string specJson) =>
        Of(specJson).Select(named => ExistingPath.Find(named.Kind, named.Name, named.Path, "/", out _)).OfType<SpecFinding>().FirstOrDefault()?.Message;

    private static IEnumerable<NamedPath> In(SpecShape shape, JsonNode? node, string at) => (shape, node) switch
    {
        (ScalarShape { Path: { } kind }, JsonValue value) => [new(at, kind, value.GetValue<string>())],
        (ObjectShape type, JsonObject map) => type.Members.SelectMany(member => In(member.Shape, map[member.Name], SpecPath.Join(at, member.Name))),
        (MapShape type, JsonObject map) => map.SelectMany(entry => In(type.Value, entry.Value, SpecPath.Entry(at, entry.Key))),
        (ListShape type, JsonArray list) => list.SelectMany((item, i) => In(type.Element, item, SpecPath.Item(at, i))),
        _ => [],
    };
}
