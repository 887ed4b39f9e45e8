using System.Collections;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>From checked JSON to the records of a spec and back, along their shapes: what <see cref="ExperimentSpecJson.Options"/> say, text for text.</summary>
/// <remarks>The serializer makes and compiles a converter and two accessors for every type and key before it reads the first, a third of the time until <c>adpm config</c> has answered. It reads whatever nobody has checked.</remarks>
internal static class SpecRecords
{
    /// <summary>A record of what <see cref="YamlBinder"/> has bound: every key known, every value of its kind.</summary>
    public static T Read<T>(JsonObject node) => (T)Read(SpecShape.Of<T>(), typeof(T), node);

    /// <summary>Canonical JSON.</summary>
    public static string Write<T>(T record)
        where T : notnull
    {
        using var memory = new MemoryStream();
        using (var writer = new Utf8JsonWriter(memory, new JsonWriterOptions { Encoder = ExperimentSpecJson.Options.Encoder }))
            Write(writer, SpecShape.Of<T>(), record);
        return Encoding.UTF8.GetString(memory.GetBuffer(), 0, (int)memory.Length);
    }

    private static object Read(SpecShape shape, Type type, JsonNode node)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        switch (shape)
        {
            case ObjectShape record:
                var made = Activator.CreateInstance(type)!;
                foreach (var (key, value) in node.AsObject())
                    if (value is not null && record.Find(key) is { } member)
                        member.Property.SetValue(made, Read(member.Shape, member.Property.PropertyType, value));
                return made;
            case MapShape map:
                var values = type.GetGenericArguments()[1];
                var entries = (IDictionary)Activator.CreateInstance(typeof(Dictionary<,>).MakeGenericType(typeof(string), values))!;
                foreach (var (key, value) in node.AsObject())
                    entries.Add(key, Read(map.Value, values, value!));
                return entries;
            case ListShape list:
                var (items, element) = (node.AsArray(), type.GetGenericArguments()[0]);
                var array = Array.CreateInstance(element, items.Count);
                for (var i = 0; i < items.Count; i++)
                    array.SetValue(Read(list.Element, element, items[i]!), i);
                return array;
            default:
                return Scalar(type, node);
        }
    }

    private static object Scalar(Type type, JsonNode node) =>
        type == typeof(string) ? node.GetValue<string>()
        : type == typeof(int) ? node.GetValue<int>()
        : type == typeof(bool) ? node.GetValue<bool>()
        : type == typeof(double) ? node.AsValue().TryGetValue<double>(out var number) ? number : node.GetValue<int>()
        : SpecWords.Of(type).Value(node.GetValue<string>()) ?? throw new JsonException($"'{node}' is no {type.Name}.");

    private static void Write(Utf8JsonWriter writer, SpecShape shape, object value)
    {
        switch (shape)
        {
            case ObjectShape record:
                writer.WriteStartObject();
                foreach (var member in record.Members)
                {
                    if (member.Property.GetValue(value) is not { } set)
                        continue;
                    writer.WritePropertyName(member.Name);
                    Write(writer, member.Shape, set);
                }
                writer.WriteEndObject();
                break;
            case MapShape map:
                writer.WriteStartObject();
                foreach (DictionaryEntry entry in (IDictionary)value)
                {
                    writer.WritePropertyName((string)entry.Key);
                    Write(writer, map.Value, entry.Value!);
                }
                writer.WriteEndObject();
                break;
            case ListShape list:
                writer.WriteStartArray();
                foreach (var item in (IEnumerable)value)
                    Write(writer, list.Element, item);
                writer.WriteEndArray();
                break;
            default:
                Write(writer, value);
                break;
        }
    }

    private static void Write(Utf8JsonWriter writer, object scalar)
    {
        switch (scalar)
        {
            case string text:
                writer.WriteStringValue(text);
                break;
            case int whole:
                writer.WriteNumberValue(whole);
                break;
            case double number:
                writer.WriteNumberValue(number);
                break;
            case bool truth:
                writer.WriteBooleanValue(truth);
                break;
            default:
                writer.WriteStringValue(SpecWords.Of(scalar.GetType()).Word(scalar));
                break;
        }
    }
}
