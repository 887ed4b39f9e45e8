using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;

namespace AdjointDpm.Models;

/// <summary>Reads and writes the <c>config.json</c> of models.</summary>
/// <remarks>Field names are snake_case; fields that are missing keep the record's default; fields that are unknown are passed over, since every release of diffusers adds some.</remarks>
internal static partial class ModelConfig
{
    private static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        IndentSize = 2,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new OneOrManyConverter() },
    };

    public static T Read<T>(string path)
    {
        if (!File.Exists(path))
            throw new ModelConfigException($"{path}: there is no such file. A model folder holds config.json beside its weights.");
        try
        {
            return JsonSerializer.Deserialize<T>(PythonNumber().Replace(File.ReadAllText(path), "null"), Options)
                ?? throw new ModelConfigException($"{path}: holds null where a configuration belongs.");
        }
        catch (JsonException e)
        {
            throw new ModelConfigException($"{path}: {(e.Path is null ? "" : $"field {e.Path}: ")}{e.Message}", e);
        }
    }

    /// <summary>The <c>_class_name</c> of a configuration, or null.</summary>
    public static string? ClassName(string path) => Read<Named>(path).ClassName;

    /// <summary>A field that is a text; null where it is not one, or not there.</summary>
    public static string? Text(JsonElement json, string name) => json.ValueKind == JsonValueKind.Object && json.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    public static void Write<T>(string path, T config)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        File.WriteAllText(path, JsonSerializer.Serialize(config, Options) + "\n");
    }

    // Python writes infinities that are no JSON, such as "lambda_min_clipped": -Infinity in every DPM-Solver scheduler. No field read here has them.
    [GeneratedRegex(@"(?<=[:\[,]\s*)(-?Infinity|NaN)(?=\s*[,}\]])")]
    private static partial Regex PythonNumber();

    private sealed record Named([property: JsonPropertyName("_class_name")] string? ClassName);

    private sealed class OneOrManyConverter : JsonConverter<OneOrMany>
    {
        public override OneOrMany? Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) =>
            reader.TokenType == JsonTokenType.StartArray
                ? new OneOrMany(JsonSerializer.Deserialize<int[]>(ref reader)!)
                : new OneOrMany([reader.GetInt32()]);

        public override void Write(Utf8JsonWriter writer, OneOrMany value, JsonSerializerOptions options)
        {
            if (value.Values.Count == 1)
                writer.WriteNumberValue(value.Values[0]);
            else
                JsonSerializer.Serialize(writer, value.Values);
        }
    }
}

/// <summary>A configuration's field that is one number for all stages or a list with one for each.</summary>
/// <param name="Values">The numbers as stored.</param>
public sealed record OneOrMany(IReadOnlyList<int> Values)
{
    /// <summary>One number for all stages.</summary>
    public static implicit operator OneOrMany(int value) => new([value]);

    /// <summary>The same as the conversion from a number.</summary>
    public static OneOrMany ToOneOrMany(int value) => new([value]);

    /// <summary>The number for one stage.</summary>
    /// <exception cref="ModelConfigException">The list has another length than there are stages.</exception>
    internal int At(int index, int count, string field) =>
        Values.Count == 1 ? Values[0]
        : Values.Count == count ? Values[index]
        : throw new ModelConfigException($"{field} has {Values.Count} entries for {count} stages. Give one number, or one for each stage.");
}
