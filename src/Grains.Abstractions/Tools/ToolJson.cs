using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Tools;

/// <summary>Requests and answers of tools as lines of JSON.</summary>
public static class ToolJson
{
    /// <summary>The silo's argument; the request is the one behind it.</summary>
    public const string Argument = "--tool";

    private static readonly ToolJsonContext Context = new(new JsonSerializerOptions
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    });

    /// <summary>A request as one line.</summary>
    public static string Write(ToolRequest request) => JsonSerializer.Serialize(request, Context.ToolRequest);

    /// <summary>An answer as one line.</summary>
    public static string Write(ToolAnswer answer) => JsonSerializer.Serialize(answer, Context.ToolAnswer);

    /// <summary>Reads a request.</summary>
    /// <exception cref="JsonException">The text is none, or for a tool that this version does not have.</exception>
    public static ToolRequest ReadRequest(string json) => JsonSerializer.Deserialize(json, Context.ToolRequest) ?? throw new JsonException("The request is null.");

    /// <summary>Reads an answer.</summary>
    /// <exception cref="JsonException">The text is none.</exception>
    public static ToolAnswer ReadAnswer(string json) => JsonSerializer.Deserialize(json, Context.ToolAnswer) ?? throw new JsonException("The answer is null.");
}

[JsonSerializable(typeof(ToolRequest))]
[JsonSerializable(typeof(ToolAnswer))]
internal sealed partial class ToolJsonContext : JsonSerializerContext;
