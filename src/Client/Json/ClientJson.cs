using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Client.Json;

/// <summary>Writes documents. Generated ahead: reflection would cost a tenth of a second at the start.</summary>
internal static class ClientJson
{
    private static readonly ClientJsonContext Indented = new(Options(true));
    private static readonly ClientJsonContext Lines = new(Options(false));

    public static string Text<T>(T document) => JsonSerializer.Serialize(document, typeof(T), Indented);

    public static string Line<T>(T document) => JsonSerializer.Serialize(document, typeof(T), Lines);

    private static JsonSerializerOptions Options(bool indented) => new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        WriteIndented = indented,
        NewLine = "\n",
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        // A loss can be NaN, which JSON has no number for.
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new JsonStringEnumConverter<RunState>(JsonNamingPolicy.CamelCase), new JsonStringEnumConverter<EventKind>(JsonNamingPolicy.CamelCase), new JsonStringEnumConverter<ReplayState>(JsonNamingPolicy.CamelCase), new JsonStringEnumConverter<WorkerState>(JsonNamingPolicy.CamelCase), new JsonStringEnumConverter<WorkProgress>(JsonNamingPolicy.CamelCase) },
    };
}

[JsonSerializable(typeof(ExperimentsDocument))]
[JsonSerializable(typeof(ExperimentDocumentJson))]
[JsonSerializable(typeof(ReceiptDocument))]
[JsonSerializable(typeof(ControlDocument))]
[JsonSerializable(typeof(EventDocument))]
[JsonSerializable(typeof(ErrorDocument))]
[JsonSerializable(typeof(AuditDocument))]
[JsonSerializable(typeof(ProofDocument))]
[JsonSerializable(typeof(ScoreDocument))]
[JsonSerializable(typeof(ReplayDocument))]
[JsonSerializable(typeof(DoctorDocument))]
[JsonSerializable(typeof(InspectionDocument))]
[JsonSerializable(typeof(FilesDocument))]
[JsonSerializable(typeof(MemoryDocument))]
[JsonSerializable(typeof(RewardsDocument))]
[JsonSerializable(typeof(ModelsDocument))]
[JsonSerializable(typeof(WorkersDocument))]
[JsonSerializable(typeof(TrialsDocument))]
[JsonSerializable(typeof(DiffDocument))]
[JsonSerializable(typeof(GridDocument))]
[JsonSerializable(typeof(TopDocument))]
[JsonSerializable(typeof(LogDocument))]
internal sealed partial class ClientJsonContext : JsonSerializerContext;
