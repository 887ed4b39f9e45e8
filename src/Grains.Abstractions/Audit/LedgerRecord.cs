using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Audit;

/// <summary>What became of a contribution to a shard.</summary>
public enum ContributionOutcome
{
    /// <summary>First valid one for its shard: the one that counts.</summary>
    Accepted,

    /// <summary>The shard has a contribution already, with the same contents.</summary>
    Duplicate,

    /// <summary>Of another trial, epoch, kind, step or shard, or of an attempt that was never leased.</summary>
    Stale,

    /// <summary>The shard has a contribution already, with other contents: a worker computes wrongly.</summary>
    Mismatch,
}

/// <summary>What of a stale contribution's token is not the step's.</summary>
public enum StaleReason
{
    /// <summary>It is of another trial.</summary>
    Run,

    /// <summary>It is of a former coordinator.</summary>
    Coordinator,

    /// <summary>It is no gradient.</summary>
    Work,

    /// <summary>It is of another step.</summary>
    Step,

    /// <summary>The step has no such shard.</summary>
    Shard,

    /// <summary>Nobody was given this attempt.</summary>
    Attempt,
}

/// <summary>One contribution as the coordinator took it. Run, epoch and step stand in the record around it: together they are its token, unless it is stale.</summary>
internal sealed record LedgerContribution(int Shard, int Attempt, ContributionOutcome Outcome, string ContentSha256, long Weight, string Worker)
{
    /// <summary>Why it is stale; absent from all others.</summary>
    public StaleReason? Stale { get; init; }

    /// <summary>The whole token of a stale one.</summary>
    public string? Token { get; init; }
}

/// <summary>What a trial set out to do: the contents of its first record.</summary>
internal sealed record LedgerPlan(string SpecJson, string SpecSha256, string ModelSha256, int Steps, int Shards, int SamplesPerShard);

/// <summary>One line of a trial's ledger: its plan (step 0), or a step with everything that was contributed to it.</summary>
/// <remarks>
/// A line is the record's canonical JSON: keys in the order of declaration, no spaces, invariant shortest numbers. <see cref="Sha256"/> is
/// the SHA-256 of that text without the key itself, and <see cref="Previous"/> that of the step before, so nothing can be changed, taken
/// out or put in without every later record and the trial's committed state saying so.
/// </remarks>
internal sealed record LedgerRecord
{
    /// <summary>Trial, as <c>experiment/index</c>.</summary>
    public required string Run { get; init; }

    /// <summary>Number of steps committed with this record; 0 for the plan.</summary>
    public required int Step { get; init; }

    /// <summary>Activation of the coordinator that wrote it.</summary>
    public required long Epoch { get; init; }

    public LedgerPlan? Plan { get; init; }

    /// <summary>Every contribution in the order of arrival, also those that did not count.</summary>
    public required IReadOnlyList<LedgerContribution> Contributions { get; init; }

    /// <summary>True of a step whose gradients were computed one sample at a time; else absent.</summary>
    public bool? Lean { get; init; }

    /// <summary>Which last bits the step's workers gave, of a trial that had to go on with others than it began with; else absent.</summary>
    public string? Arithmetic { get; init; }

    /// <summary>Sum of the accepted contributions' weights.</summary>
    public required long Weight { get; init; }

    public required IReadOnlyDictionary<string, double> Metrics { get; init; }

    /// <summary>Parameters after the step.</summary>
    public required string ParametersSha256 { get; init; }

    /// <summary>Optimiser state after the step; null while there is none.</summary>
    public string? OptimizerSha256 { get; init; }

    /// <summary>SHA-256 of what the encoding of each shard's gradient left for its next one; null when all were sent in full.</summary>
    public IReadOnlyList<string>? Residuals { get; init; }

    /// <summary>Hash of the record before; empty for the plan.</summary>
    public required string Previous { get; init; }

    public string? Sha256 { get; init; }

    /// <summary>The record with its own hash.</summary>
    public LedgerRecord Sealed() => this with { Sha256 = HashOf() };

    /// <summary>The record's line, without the line's end.</summary>
    public string ToLine() => JsonSerializer.Serialize(this, LedgerJson.Text);

    /// <summary>Reads a line. Null when it is no record, or not the one that its hash was taken of.</summary>
    public static LedgerRecord? Parse(string line)
    {
        try
        {
            // Written again, the record must give the very line: otherwise something stands there that the hash does not cover.
            return JsonSerializer.Deserialize(line, LedgerJson.Text) is { } record && record.Sha256 == record.HashOf() && record.ToLine() == line ? record : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    private string HashOf() => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes((this with { Sha256 = null }).ToLine())));
}

[JsonSerializable(typeof(LedgerRecord))]
internal sealed partial class LedgerJson : JsonSerializerContext
{
    public static System.Text.Json.Serialization.Metadata.JsonTypeInfo<LedgerRecord> Text { get; } = new LedgerJson(new JsonSerializerOptions
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        AllowDuplicateProperties = false,
        Converters = { new JsonStringEnumConverter<ContributionOutcome>(JsonNamingPolicy.CamelCase), new JsonStringEnumConverter<StaleReason>(JsonNamingPolicy.CamelCase) },
    }).LedgerRecord;
}
