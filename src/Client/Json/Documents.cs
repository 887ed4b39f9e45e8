using System.Text.Json;
using System.Text.Json.Serialization;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Client.Json;

/// <summary>What <c>--json</c> prints. Keys are only ever added within a version.</summary>
internal sealed record ExperimentsDocument(IReadOnlyList<ExperimentLine> Experiments)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/experiments/v1";
}

internal sealed record ExperimentLine(string Id, string Name, RunState State, int Trials, int TrialsEnded, DateTimeOffset SubmittedAt, DateTimeOffset? EndedAt)
{
    public static ExperimentLine Of(ExperimentSummary s) => new(s.Id, s.Name, s.State, s.Trials, s.TrialsEnded, s.SubmittedAt, s.EndedAt);
}

internal sealed record ExperimentDocumentJson(ExperimentLine Experiment, string? Reason, int? BestTrial, string ArtifactFolder, string SpecSha256, JsonElement Spec, IReadOnlyList<TrialDocument> Trials)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/experiment/v1";

    public static ExperimentDocumentJson Of(ExperimentSnapshot s)
    {
        using var spec = JsonDocument.Parse(s.SpecJson);
        return new(ExperimentLine.Of(s.Summary), s.Reason, s.BestTrial, s.ArtifactFolder, s.SpecSha256, spec.RootElement.Clone(), [.. s.Trials.Select(TrialDocument.Of)]);
    }
}

internal sealed record TrialDocument(
    int Index, RunState State, string? Reason, IReadOnlyDictionary<string, string> Parameters, int Step, int Steps, string? Phase, IReadOnlyDictionary<string, double> Metrics,
    IReadOnlyList<double> LossHistory, string? ParametersSha256, DateTimeOffset? StartedAt, DateTimeOffset? EndedAt, string? ArtifactFolder, int ShardsReissued, GradientProofSummary? Proof, double TrainingSeconds)
{
    public static TrialDocument Of(TrialSnapshot t) => new(
        t.Index, t.State, t.Reason, t.Parameters, t.Step, t.Steps, t.Phase, t.Metrics, t.LossHistory, t.ParametersSha256, t.StartedAt, t.EndedAt, t.ArtifactFolder, t.ShardsReissued, t.Proof, t.TrainingSeconds);
}

internal sealed record TrialsDocument(string Experiment, int Matched, IReadOnlyList<TrialDocument> Trials)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/trials/v1";
}

internal sealed record DiffDocument(string A, string B, bool SameParameters, IReadOnlyList<DifferenceDocument> Spec, IReadOnlyList<MetricDifferenceDocument> Metrics)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/diff/v1";
}

internal sealed record DifferenceDocument(string Path, string A, string B);

internal sealed record MetricDifferenceDocument(string Name, double? A, double? B);

internal sealed record ReceiptDocument(string Id, bool Existed, int Trials, string SpecSha256)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/receipt/v1";
}

internal sealed record ControlDocument(string Id, int? Trial, string Verb, bool Changed, string Message)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/control/v1";
}

internal sealed record WorkersDocument(IReadOnlyList<WorkerDescription> Workers)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/workers/v1";
}

internal sealed record EventDocument(long Sequence, DateTimeOffset Time, EventKind Kind, int? Trial, int? Step, string Message, IReadOnlyDictionary<string, double>? Metrics)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/event/v1";

    public static EventDocument Of(ExperimentEvent e) => new(e.Sequence, e.Time, e.Kind, e.Trial, e.Step, e.Message, e.Metrics);
}

internal sealed record ErrorDocument(int ExitCode, string Error, string? Advice, IReadOnlyList<ProblemDocument> Problems)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/error/v1";
}

internal sealed record ProblemDocument(string File, int Line, int Column, string Path, string Severity, string Message, string? Found, string? Expected, string? Suggestion)
{
    public static ProblemDocument Of(SpecProblem p) =>
        new(p.File, p.Line, p.Column, p.Path, p.Severity == SpecSeverity.Error ? "error" : "note", p.Message, p.Found, p.Expected, p.Suggestion);
}

internal sealed record AuditDocument(string Experiment, bool Holds, string? FirstViolation, IReadOnlyList<TrialAudit> Trials)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/audit/v1";

    public static AuditDocument Of(string experiment, IReadOnlyList<TrialAudit> trials) =>
        new(experiment, trials.All(trial => trial.Holds), trials.Where(trial => !trial.Holds).Select(trial => $"{trial.Run}: {trial.Violations[0]}").FirstOrDefault(), trials);
}

internal sealed record ScoreDocument(string Folder, SampleScore Score)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/score/v1";
}

internal sealed record ProofDocument(string Experiment, GradientProofReport Proof)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/gradient-proof/v1";
}

internal sealed record ReplayDocument(bool Equal, StepReplay Replay)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/replay/v1";
}

internal sealed record DoctorDocument(bool Healthy, IReadOnlyList<DoctorCheck> Checks)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/doctor/v1";
}

/// <param name="Name">What was looked at.</param>
/// <param name="Ok">Whether it is as it must be.</param>
/// <param name="Finding">What was found.</param>
/// <param name="Advice">What to do when it is not.</param>
internal sealed record DoctorCheck(string Name, bool Ok, string Finding, string? Advice = null);

internal sealed record InspectionDocument(string Path, string? Kind, IReadOnlyList<ToolFact>? Facts, IReadOnlyDictionary<string, string>? Metadata, IReadOnlyList<ToolTensor>? Tensors)
{
    public InspectionDocument(string path, ToolAnswer answer)
        : this(path, answer.Kind, answer.Facts, answer.Metadata, answer.Tensors)
    {
    }

    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/inspection/v1";
}

internal sealed record FilesDocument(IReadOnlyList<string> Files, string? Message)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/files/v1";
}

internal sealed record MemoryDocument(int Samples, int Steps, long WeightBytes, long TrainedNumbers, long OptimizerBytes, IReadOnlyList<MethodMemory> Methods)
{
    public MemoryDocument(ShardMemory m)
        : this(m.Samples, m.Steps, m.WeightBytes, m.TrainedNumbers, m.OptimizerBytes, m.Methods)
    {
    }

    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/memory/v1";
}

internal sealed record RewardsDocument(IReadOnlyList<RewardFitness> Rewards)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/rewards/v1";
}

/// <param name="LookedIn">Folder of the Hugging Face cache, then the others.</param>
/// <param name="Models">What was found.</param>
internal sealed record ModelsDocument(IReadOnlyList<string> LookedIn, IReadOnlyList<ToolModel> Models)
{
    [JsonPropertyOrder(-1)]
    public string Schema { get; } = "adjointdpm.dev/models/v1";
}
