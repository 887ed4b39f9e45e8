using System.Collections.Concurrent;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace AdjointDpm.Grains.Specs;

/// <summary>The JSON Schema of experiment files, for editors: the keys, types, ranges, words, defaults and explanations that <see cref="ExperimentDocument"/> goes by.</summary>
/// <remarks>Rules between several keys are not in it; <c>adpm plan</c>, <c>adpm check</c> and <c>adpm run</c> tell of those.</remarks>
public static partial class ExperimentSchema
{
    /// <summary>Draft 7 of JSON Schema: the newest that editors read throughout.</summary>
    public const string Dialect = "http://json-schema.org/draft-07/schema#";

    /// <summary>The schema, indented.</summary>
    public static string Json()
    {
        var definitions = new JsonObject();
        var root = Object(SpecShape.Of<ExperimentEnvelope>(), typeof(ExperimentEnvelope), definitions);
        var properties = root["properties"]!.AsObject();
        properties["apiVersion"]!["enum"] = new JsonArray(ExperimentDocument.ApiVersion);
        properties["kind"]!["enum"] = new JsonArray(ExperimentDocument.Kind);
        var schema = new JsonObject { ["$schema"] = Dialect, ["title"] = "AdjointDpm experiment" };
        foreach (var (key, value) in root.ToArray())
        {
            root.Remove(key);
            schema[key] = value;
        }

        schema["definitions"] = definitions;
        return schema.ToJsonString(new JsonSerializerOptions(ExperimentSpecJson.Options) { WriteIndented = true, NewLine = "\n" });
    }

    private static JsonObject Object(ObjectShape shape, Type type, JsonObject definitions)
    {
        var defaults = Activator.CreateInstance(type);
        var properties = new JsonObject();
        foreach (var member in shape.Members)
        {
            var schema = Of(member.Shape, member.Property, Inner(member.Property.PropertyType), definitions);
            if (Explained.Of(member.Property) is { Length: > 0 } words)
                schema["description"] = words;
            // A default object is described by the defaults of its own keys.
            if (!member.Required && member.Shape is not ObjectShape && member.Property.GetValue(defaults) is { } value && JsonSerializer.SerializeToNode(value, member.Property.PropertyType, ExperimentSpecJson.Options) is { } node && node is not JsonObject { Count: 0 })
                schema["default"] = node;
            if (member.Nullable && !member.Required)
                Allow(schema, "null");
            properties[member.Name] = schema;
        }

        var result = new JsonObject { ["type"] = "object", ["properties"] = properties, ["additionalProperties"] = false };
        if (shape.Members.Any(member => member.Required))
            result["required"] = new JsonArray([.. shape.Members.Where(member => member.Required).Select(member => JsonValue.Create(member.Name))]);
        return result;
    }

    private static JsonObject Of(SpecShape shape, PropertyInfo property, Type type, JsonObject definitions)
    {
        switch (shape)
        {
            case ObjectShape o:
                if (!definitions.ContainsKey(type.Name))
                {
                    definitions[type.Name] = null; // breaks a cycle, should there ever be one
                    definitions[type.Name] = Object(o, type, definitions);
                }

                // Draft 7 passes over whatever stands beside $ref.
                return new JsonObject { ["allOf"] = new JsonArray(new JsonObject { ["$ref"] = $"#/definitions/{type.Name}" }) };
            case ListShape list:
                var items = new JsonObject { ["type"] = "array", ["items"] = Of(list.Element, property, type, definitions) };
                if (list.MinLength > 0)
                    items["minItems"] = list.MinLength;
                return items;
            case MapShape map:
                return new JsonObject { ["type"] = "object", ["additionalProperties"] = Of(map.Value, property, type, definitions) };
            default:
                return Scalar((ScalarShape)shape);
        }
    }

    private static JsonObject Scalar(ScalarShape shape)
    {
        // The reader takes such text in any form that YAML has for it.
        if (shape.NestedAsText)
            return new JsonObject { ["type"] = new JsonArray("string", "number", "boolean", "array") };
        if (shape.Type.IsEnum)
            return new JsonObject { ["enum"] = new JsonArray([.. shape.Words.Select(word => JsonValue.Create(word))]) };
        if (shape.Type == typeof(string))
            return new JsonObject { ["type"] = "string", ["minLength"] = 1 };
        if (shape.Type == typeof(bool))
            return new JsonObject { ["type"] = "boolean" };
        var whole = shape.Type == typeof(int);
        var schema = new JsonObject { ["type"] = whole ? "integer" : "number" };
        if (shape.Range is { } range)
        {
            schema["minimum"] = JsonNode.Parse(Convert.ToString(range.Minimum, System.Globalization.CultureInfo.InvariantCulture)!);
            schema["maximum"] = JsonNode.Parse(Convert.ToString(range.Maximum, System.Globalization.CultureInfo.InvariantCulture)!);
        }

        return schema;
    }

    /// <summary>A key that may be left empty.</summary>
    private static void Allow(JsonObject schema, string type)
    {
        if (schema["type"] is JsonArray types) types.Add(type);
        else if (schema["type"] is JsonValue single) schema["type"] = new JsonArray(single.GetValue<string>(), type);
        else if (schema["enum"] is JsonArray words) words.Add((JsonNode?)null);
        else if (schema["allOf"] is JsonArray { Count: 1 } all)
        {
            schema.Remove("allOf");
            all.Add(new JsonObject { ["type"] = type });
            schema["anyOf"] = all;
        }
    }

    /// <summary>The record behind a member: of a list, its items; of a mapping, its values.</summary>
    private static Type Inner(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        return type.IsGenericType ? Inner(type.GetGenericArguments()[^1]) : type;
    }

    /// <summary>The documentation of the records, from the file that is built beside their assembly.</summary>
    private static partial class Explained
    {
        private static readonly ConcurrentDictionary<Assembly, IReadOnlyDictionary<string, string>> Files = new();

        public static string? Of(PropertyInfo property) =>
            Files.GetOrAdd(property.DeclaringType!.Assembly, Read).GetValueOrDefault($"P:{property.DeclaringType!.FullName}.{property.Name}");

        private static Dictionary<string, string> Read(Assembly assembly)
        {
            var file = Path.Combine(AppContext.BaseDirectory, assembly.GetName().Name + ".xml");
            if (!File.Exists(file))
                return [];
            return XDocument.Load(file).Descendants("member")
                .Where(member => member.Attribute("name") is not null && member.Element("summary") is not null)
                .ToDictionary(member => member.Attribute("name")!.Value, member => Text(member.Element("summary")!));
        }

        private static string Text(XElement summary) => Blanks().Replace(string.Concat(summary.Nodes().Select(node => node switch
        {
            XText text => text.Value,
            XElement { Name.LocalName: "see" or "paramref" } see => Name(see),
            XElement element => element.Value,
            _ => "",
        })), " ").Trim();

        private static string Name(XElement see)
        {
            var name = (see.Attribute("cref") ?? see.Attribute("name") ?? see.Attribute("langword"))?.Value ?? see.Value;
            return JsonNamingPolicy.CamelCase.ConvertName(name[(name.LastIndexOf('.') + 1)..]);
        }

        [GeneratedRegex(@"\s+")]
        private static partial Regex Blanks();
    }
}
