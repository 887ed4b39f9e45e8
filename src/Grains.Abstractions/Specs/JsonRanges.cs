using System.Text.Json;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>Checks numbers, lists and texts of a JSON spec whose types are right already.</summary>
internal static class JsonRanges
{
    public static void Check(SpecShape shape, JsonNode? node, string path, List<SpecFinding> findings)
    {
        switch (shape, node)
        {
            case (ObjectShape type, JsonObject value):
                foreach (var (name, child) in value)
                {
                    if (type.Find(name) is { } member && child is not null) Check(member.Shape, child, SpecPath.Join(path, name), findings);
                }

                break;
            case (MapShape type, JsonObject value):
                foreach (var (name, child) in value) Check(type.Value, child, SpecPath.Entry(path, name), findings);
                break;
            case (ListShape type, JsonArray value):
                if (value.Count < type.MinLength)
                    findings.Add(new SpecFinding(path, $"{path} must have at least {type.MinLength} items, but has {value.Count}."));
                for (var i = 0; i < value.Count; i++) Check(type.Element, value[i], SpecPath.Item(path, i), findings);
                break;
            case (ScalarShape type, JsonValue value):
                var quoted = value.GetValueKind() == JsonValueKind.String;
                var reading = ScalarReading.Read(type, quoted ? value.GetValue<string>() : value.ToJsonString(), quoted);
                if (reading.Value is null) findings.Add(reading.Finding(path, type));
                else if (type.Path is not null && !Path.IsPathFullyQualified(value.GetValue<string>()))
                    findings.Add(new SpecFinding(path, $"{path} must be an absolute path, but is '{value.GetValue<string>()}'."));
                break;
            default:
                findings.Add(new SpecFinding(path, $"{path} must be {shape.Expected}, but is {(node is null ? "null" : "something else")}."));
                break;
        }
    }
}
