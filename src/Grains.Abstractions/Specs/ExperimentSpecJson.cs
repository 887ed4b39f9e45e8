using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Specs;

/// <summary>The canonical JSON of a spec: keys in the order of their declaration, every default written out, unset optional keys left out, invariant numbers. Equal specs give equal text and so an equal hash.</summary>
public static class ExperimentSpecJson
{
    internal static JsonSerializerOptions Options { get; } = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        AllowDuplicateProperties = false,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new SpecEnumConverter() },
    };

    /// <summary>Canonical JSON.</summary>
    public static string Serialize(ExperimentSpec spec) => SpecRecords.Write(spec);

    /// <summary>Reads JSON, canonical or not, and checks all ranges and rules. Paths must be absolute; whether anything is there is not looked at.</summary>
    /// <exception cref="SpecException">The text is no JSON, has unknown or repeated keys, wrong types, numbers out of range, or breaks a rule.</exception>
    public static ExperimentSpec Deserialize(string json)
    {
        var spec = Read(json, out var node);
        var findings = new List<SpecFinding>();
        JsonRanges.Check(SpecShape.Of<ExperimentSpec>(), node, "", findings);
        findings.AddRange(SpecRules.Check(spec));
        findings.AddRange(SearchRules.Check(spec, node, folder: null));
        findings.AddRange(SecretRules.Check(node));
        var errors = findings.Where(finding => finding.Severity == SpecSeverity.Error).Select(finding => finding.Nowhere()).ToList();
        return errors.Count == 0 ? spec : throw new SpecException(errors);
    }

    /// <summary>SHA-256 of the UTF-8 bytes of <paramref name="specJson"/>, lower-case hex.</summary>
    public static string Sha256(string specJson) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(specJson)));

    /// <summary>An enum's value as specs write it.</summary>
    internal static string NameOf<T>(T value)
        where T : struct, Enum => SpecWords.Of(typeof(T)).Word(value);

    internal static ExperimentSpec Bind(JsonNode node) => node.Deserialize<ExperimentSpec>(Options)!;

    private static ExperimentSpec Read(string json, out JsonObject node)
    {
        try
        {
            var spec = JsonSerializer.Deserialize<ExperimentSpec>(json, Options) ?? throw new JsonException("The spec is null.");
            node = JsonNode.Parse(json)!.AsObject();
            return spec;
        }
        catch (JsonException e)
        {
            throw new SpecException([new SpecFinding(e.Path?.TrimStart('$', '.') ?? "", $"The spec is not what this version reads: {e.Message}").Nowhere()]);
        }
    }
}
