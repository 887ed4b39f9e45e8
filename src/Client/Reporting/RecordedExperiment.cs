using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Reporting;

/// <summary>An experiment as it lies in its folder: <c>report.json</c> and the trials' files beside it.</summary>
internal sealed class RecordedExperiment
{
    private readonly string _folder;
    private readonly bool _lasting;

    private RecordedExperiment(string folder, bool lasting, RecordedReport report) => (_folder, _lasting, Report) = (folder, lasting, report);

    public RecordedReport Report { get; }

    public string Id => Report.Experiment.Id;

    /// <param name="folder">Folder with <c>report.json</c>.</param>
    /// <param name="lasting">Whether the folder stays, so that a page may lead to its files.</param>
    /// <exception cref="CommandFailure">There is none, or it cannot be read.</exception>
    public static RecordedExperiment Load(string folder, bool lasting = true)
    {
        var path = Path.Combine(folder, ResultNames.Report);
        if (!File.Exists(path))
            throw new CommandFailure(ExitCodes.Failed, $"'{folder}' has no report.json, which is written when an experiment ends.", "Wait for its end with 'adpm watch ID', or look at it now with 'adpm show ID'.");
        try
        {
            var report = JsonSerializer.Deserialize(File.ReadAllBytes(path), RecordedJson.Reading.RecordedReport) ?? throw new JsonException("it is empty");
            return report.Schema == 1 ? new(folder, lasting, report)
                : throw new CommandFailure(ExitCodes.Failed, $"'{path}' has schema {report.Schema}; this adpm reads schema 1.", "Use the adpm of the version that wrote it.");
        }
        catch (JsonException e)
        {
            throw new CommandFailure(ExitCodes.Failed, $"'{path}' cannot be read: {e.Message}", "Restore it from a copy, or run the experiment again: it ends in the same report.");
        }
    }

    public RecordedTrial? Best => Report.Objective.BestTrial is { } best ? Report.Trials.FirstOrDefault(trial => trial.Index == best) : null;

    /// <summary>Metrics of all objectives, the first first.</summary>
    public IReadOnlyList<string> Objectives => Report.Spec["objectives"] is JsonArray { Count: > 0 } several
        ? [.. several.Select(objective => Text(objective?["metric"])).OfType<string>()]
        : [Report.Objective.Metric];

    /// <summary>Whether a metric is to grow, by its name without before and after; null where nobody has said. A name alone says nothing: that an attack succeeds more often, or that noise moves further, is what an audit is for.</summary>
    public bool? Grows(string name, RecordedTrial trial)
    {
        if (name + ".after" == Report.Objective.Metric || name == Report.Objective.Metric)
            return !Minimizes;
        foreach (var objective in Report.Spec["objectives"] as JsonArray ?? [])
            if (Text(objective?["metric"]) is { } metric && (metric == name + ".after" || metric == name))
                return Text(objective?["goal"]) == "maximize";
        return name switch
        {
            "loss" or "heldOut.loss" => false, // what training makes small
            "heldOut.accuracy" when !trial.Metrics.Keys.Any(key => key.StartsWith("audit.", StringComparison.Ordinal)) => true, // the share that is taken for what was asked for
            "heldOut.diversity" => true,
            _ => name.StartsWith("heldOut.losses.", StringComparison.Ordinal) ? false : null,
        };
    }

    private static string? Text(JsonNode? node) => node?.GetValueKind() == JsonValueKind.String ? (string)node! : null;

    /// <summary>Whether a smaller objective is better.</summary>
    public bool Minimizes => Report.Objective.Goal != "maximize";

    /// <summary>The objective's number of a trial; null unless it succeeded and has it.</summary>
    public double? ObjectiveOf(RecordedTrial trial) =>
        trial.State == RunState.Succeeded && trial.Metrics.TryGetValue(Report.Objective.Metric, out var value) && double.IsFinite(value) ? value : null;

    /// <summary>Bytes of a file of a trial; null when it is not there.</summary>
    public byte[]? Bytes(int trial, string name)
    {
        var path = Path.Combine(_folder, ResultNames.OfTrial(trial), name);
        return File.Exists(path) ? File.ReadAllBytes(path) : null;
    }

    /// <summary>How a page in a folder leads to a file of a trial; null when the results are not on this machine.</summary>
    public string? LinkTo(int trial, string name, string pageFolder)
    {
        if (!_lasting)
            return null;
        var path = Path.GetRelativePath(pageFolder, Path.Combine(_folder, ResultNames.OfTrial(trial), name));
        // Of another drive it would be an address of one machine.
        return Path.IsPathRooted(path) ? null : string.Join('/', path.Split(Path.DirectorySeparatorChar).Select(Uri.EscapeDataString));
    }

    /// <summary>The proof of a trial's gradient in full; null when it was not asked for.</summary>
    public GradientProofReport? ProofOf(int trial)
    {
        try
        {
            return Bytes(trial, ResultNames.Proof) is { } bytes ? GradientProofReport.Parse(bytes) : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}

/// <remarks>What was written before there was a key is read as nothing: generated readers set what is absent to null.</remarks>
internal sealed record RecordedReport
{
    public int Schema { get; init; }
    public required RecordedSummary Experiment { get; init; }
    public string? Reason { get; init; }
    public required JsonObject Spec { get; init; }
    public string SpecSha256 { get; init; } = "";
    public required RecordedObjective Objective { get; init; }
    public IReadOnlyList<int>? Front { get; init; }
    public IReadOnlyDictionary<string, long?> Seeds { get; init; } = new Dictionary<string, long?>();
    public IReadOnlyDictionary<string, JsonElement> Resources { get; init; } = new Dictionary<string, JsonElement>();
    public string? ModelSha256 { get; init; }
    public IReadOnlyDictionary<string, string> Versions { get; init; } = new Dictionary<string, string>();
    public IReadOnlyList<string> Hardware { get => field ?? []; init; }
    public IReadOnlyDictionary<string, string> Labels { get => field ?? new Dictionary<string, string>(); init; }
    public string? Command { get; init; }
    public IReadOnlyList<RecordedTrial> Trials { get; init; } = [];

    /// <summary>Which last bits the workers gave.</summary>
    [JsonIgnore] public IReadOnlyList<string> Kinds => [.. Trials.SelectMany(trial => trial.Arithmetic).Select(since => since.Kind).Distinct()];
}

internal sealed record RecordedSummary
{
    public required string Id { get; init; }
    public string Name { get; init; } = "";
    public RunState State { get; init; }
    public DateTimeOffset SubmittedAt { get; init; }
    public DateTimeOffset? EndedAt { get; init; }
}

internal sealed record RecordedObjective
{
    public string Metric { get; init; } = "";
    public string Goal { get; init; } = "minimize";
    public int? BestTrial { get; init; }
    public double? BestValue { get; init; }
}

internal sealed record RecordedTrial
{
    public int Index { get; init; }
    public RunState State { get; init; }
    public string? Reason { get; init; }
    public IReadOnlyDictionary<string, string> Parameters { get; init; } = new Dictionary<string, string>();
    public int Step { get; init; }
    public int Steps { get; init; }
    public IReadOnlyDictionary<string, double> Metrics { get; init; } = new Dictionary<string, double>();
    public string? ParametersSha256 { get; init; }
    public string? LedgerSha256 { get; init; }
    public GradientProofSummary? Proof { get; init; }
    public IReadOnlyList<double> LossHistory { get; init; } = [];
    public double? Seconds { get; init; }
    public int ShardsReissued { get; init; }
    public IReadOnlyDictionary<string, JsonElement> Cost { get; init; } = new Dictionary<string, JsonElement>();

    /// <summary>Which last bits its workers gave, and from which step on.</summary>
    public IReadOnlyList<ArithmeticSince> Arithmetic { get => field ?? []; init; }

    /// <summary>What its bits depend on besides the spec.</summary>
    public IReadOnlyList<string> Notices { get => field ?? []; init; }

    /// <summary>Steps of the best trials.</summary>
    public IReadOnlyList<TrialStep> History { get => field ?? []; init; }

    /// <summary>Where the time went; null of a report of another version.</summary>
    public TrialTimes? Times => Cost.TryGetValue("times", out var times) && times.ValueKind == JsonValueKind.Object ? times.Deserialize(RecordedJson.Reading.TrialTimes) : null;
}

[JsonSerializable(typeof(RecordedReport))]
[JsonSerializable(typeof(ReportDocument))]
[JsonSerializable(typeof(TrialTimes))]
internal sealed partial class RecordedJson : JsonSerializerContext
{
    public static RecordedJson Reading { get; } = new(new JsonSerializerOptions
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        WriteIndented = true,
        NewLine = "\n",
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new JsonStringEnumConverter<RunState>(JsonNamingPolicy.CamelCase) },
    });
}
