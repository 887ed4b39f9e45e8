using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
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
        // A null where the class has no use for one would come up as a missing object deep inside a network.
        RespectNullableAnnotations = true,
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
            return JsonSerializer.Deserialize<T>(PythonNumber().Replace(File.ReadAllText(path), "\"$1\""), Options)
                ?? throw new ModelConfigException($"{path}: holds null where a configuration belongs.");
        }
        catch (JsonException e)
        {
            throw Malformed(path, e);
        }
    }

    /// <summary>A configuration from a file's fields, some of which were looked at or changed before.</summary>
    public static T Of<T>(string path, JsonObject fields)
    {
        try
        {
            return fields.Deserialize<T>(Options)!;
        }
        catch (JsonException e)
        {
            throw Malformed(path, e);
        }
    }

    /// <summary>A configuration's fields as they would be written.</summary>
    public static JsonObject Fields<T>(T config) => JsonSerializer.SerializeToNode(config, Options)!.AsObject();

    /// <summary>The <c>_class_name</c> of a configuration, or null.</summary>
    public static string? ClassName(string path) => Read<Named>(path).ClassName;

    /// <summary>A field that is a text; null where it is not one, or not there.</summary>
    public static string? Text(JsonElement json, string name) => json.ValueKind == JsonValueKind.Object && json.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    public static void Write<T>(string path, T config)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        File.WriteAllText(path, QuotedNumber().Replace(JsonSerializer.Serialize(config, Options), "$1") + "\n");
    }

    /// <summary>Refuses fields that would change a network and are not computed here.</summary>
    /// <param name="path">The file.</param>
    /// <param name="fields">What it says besides the fields that are read.</param>
    /// <param name="unsupported">Names, each with the JSON that turns it off; null, or the field's absence, does so too.</param>
    /// <exception cref="ModelConfigException">One of them is on.</exception>
    public static void ThrowIfOn(string path, IDictionary<string, JsonElement> fields, ReadOnlySpan<(string Field, string? Off)> unsupported)
    {
        foreach (var (field, off) in unsupported)
        {
            if (fields.TryGetValue(field, out var value) && value.ValueKind != JsonValueKind.Null && value.GetRawText() != off
                && !(value.ValueKind == JsonValueKind.Number && off is not null && value.GetDouble() == double.Parse(off, CultureInfo.InvariantCulture)))
                throw new ModelConfigException($"{path}: {field} is {value.GetRawText()}, which is not supported. Supported is {off ?? "null"}.");
        }
    }

    private static ModelConfigException Malformed(string path, JsonException e) => new($"{path}: {(e.Path is null or "$" ? "" : $"field {e.Path}: ")}{e.Message}", e);

    // Python writes infinities that are no JSON, such as "lambda_min_clipped": -Infinity in every DPM-Solver scheduler: texts while they are here.
    [GeneratedRegex(@"(?<=[:\[,]\s*)(-?Infinity|NaN)(?=\s*[,}\]])")]
    private static partial Regex PythonNumber();

    [GeneratedRegex("""(?<=[:\[,]\s*)"(-?Infinity|NaN)"(?=\s*[,}\]])""")]
    private static partial Regex QuotedNumber();

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
