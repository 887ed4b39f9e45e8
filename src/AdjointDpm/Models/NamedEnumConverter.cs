using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace AdjointDpm.Models;

/// <summary>An enum by the names of its <see cref="JsonStringEnumMemberNameAttribute"/>s, with an error that lists them.</summary>
internal sealed class NamedEnumConverter<T> : JsonConverter<T>
    where T : struct, Enum
{
    private static readonly Dictionary<string, T> Values = Enum.GetValues<T>().ToDictionary(Name);

    public override T Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        var text = reader.TokenType == JsonTokenType.String ? reader.GetString()! : reader.TokenType.ToString();
        return Values.TryGetValue(text, out var value) ? value : throw new JsonException($"'{text}' is none of {string.Join(", ", Values.Keys)}.");
    }

    public override void Write(Utf8JsonWriter writer, T value, JsonSerializerOptions options) => writer.WriteStringValue(Name(value));

    private static string Name(T value) => typeof(T).GetField(value.ToString())!.GetCustomAttribute<JsonStringEnumMemberNameAttribute>()!.Name;
}
