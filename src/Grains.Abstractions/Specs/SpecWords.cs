using System.Collections.Concurrent;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Specs;

/// <summary>An enum as specs write it: one spelling a value, that of its <see cref="JsonStringEnumMemberNameAttribute"/> or its name in kebab case, and nothing else.</summary>
internal sealed class SpecWords
{
    private static readonly ConcurrentDictionary<Type, SpecWords> Known = new();

    private readonly object[] _values;
    private readonly string[] _words;

    private SpecWords(Type type)
    {
        var fields = type.GetFields(BindingFlags.Public | BindingFlags.Static);
        _values = [.. fields.Select(field => field.GetValue(null)!)];
        _words = [.. fields.Select(field => field.GetCustomAttribute<JsonStringEnumMemberNameAttribute>()?.Name ?? JsonNamingPolicy.KebabCaseLower.ConvertName(field.Name))];
    }

    /// <summary>In the order of declaration.</summary>
    public IReadOnlyList<string> All => _words;

    public static SpecWords Of(Type type) => Known.GetOrAdd(type, static type => new SpecWords(type));

    /// <summary>The value of a word; null when there is none.</summary>
    public object? Value(string? word) => Array.IndexOf(_words, word) is >= 0 and var at ? _values[at] : null;

    /// <exception cref="JsonException">It is none of the enum's values.</exception>
    public string Word(object value) => Array.IndexOf(_values, value) is >= 0 and var at ? _words[at] : throw new JsonException($"{value} is no {value.GetType().Name}.");
}

/// <summary>The same for the serializer, in place of JsonStringEnumConverter, of whose methods the runtime compiles some forty for each enum.</summary>
internal sealed class SpecEnumConverter : JsonConverterFactory
{
    public override bool CanConvert(Type typeToConvert) => typeToConvert.IsEnum;

    public override JsonConverter CreateConverter(Type typeToConvert, JsonSerializerOptions options) =>
        (JsonConverter)Activator.CreateInstance(typeof(Converter<>).MakeGenericType(typeToConvert))!;

    private sealed class Converter<T> : JsonConverter<T>
        where T : struct, Enum
    {
        // The serializer says which type and where.
        public override T Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            SpecWords.Of(typeof(T)).Value(reader.TokenType == JsonTokenType.String ? reader.GetString() : null) is T value ? value : throw new JsonException();

        public override void Write(Utf8JsonWriter writer, T value, JsonSerializerOptions options) => writer.WriteStringValue(SpecWords.Of(typeof(T)).Word(value));
    }
}
