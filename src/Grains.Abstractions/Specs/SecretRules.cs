using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace AdjointDpm.Grains.Specs;

/// <summary>A spec is kept, hashed and shown to everybody who may look: it holds no secrets.</summary>
internal static partial class SecretRules
{
    /// <summary>How variables begin that a spec may name: no other secret of a silo can be sent anywhere by a spec.</summary>
    public const string Prefix = "ADPM_SECRET_";

    /// <summary>The variable that a reference names; null when it is none.</summary>
    public static string? VariableOf(string reference) => Reference().Match(reference) is { Success: true } match ? match.Groups[1].Value : null;

    /// <summary>A finding for every text that looks like a credential; the text itself is not repeated.</summary>
    public static IEnumerable<SpecFinding> Check(JsonNode? node, string path = "") => node switch
    {
        JsonObject map => map.SelectMany(entry => Check(entry.Value, path == "parameters" || path.EndsWith(".when", StringComparison.Ordinal) ? SpecPath.Entry(path, entry.Key) : SpecPath.Join(path, entry.Key))),
        JsonArray list => list.SelectMany((item, i) => Check(item, SpecPath.Item(path, i))),
        JsonValue value when value.TryGetValue<string>(out var text) && Kind(text) is { } kind =>
            [new SpecFinding(path, $"{path} holds {kind}. Specs are kept and shown: give secrets to the silos by their environment or secret store, and name none here.")],
        _ => [],
    };

    private static string? Kind(string text) =>
        PrivateKey().IsMatch(text) ? "a private key"
        : Token().IsMatch(text) ? "what looks like an access token"
        : UserInfo().IsMatch(text) ? "an address with a password"
        : null;

    [GeneratedRegex("^env:(" + Prefix + @"[A-Z0-9_]{1,100})\z", RegexOptions.CultureInvariant)]
    private static partial Regex Reference();

    [GeneratedRegex("-----BEGIN [A-Z ]*PRIVATE KEY", RegexOptions.CultureInvariant)]
    private static partial Regex PrivateKey();

    /// <summary>Hugging Face, GitHub, AWS, OpenAI, Slack, GitLab, JSON web tokens.</summary>
    [GeneratedRegex(@"\b(hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|(AKIA|ASIA)[A-Z0-9]{16}|sk-[A-Za-z0-9_-]{30,}|xox[abpr]-[A-Za-z0-9-]{20,}|glpat-[A-Za-z0-9_-]{20,}|eyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.)", RegexOptions.CultureInvariant)]
    private static partial Regex Token();

    [GeneratedRegex(@"\b[a-z][a-z0-9+.-]*://[^\s/@:]*:[^\s/@]+@", RegexOptions.CultureInvariant | RegexOptions.IgnoreCase)]
    private static partial Regex UserInfo();
}
