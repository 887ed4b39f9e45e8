using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Experiments;

/// <summary>The record of an experiment: <c>report.json</c> at its place, with all that is needed to repeat and to judge it.</summary>
internal static class ExperimentReport
{
    /// <summary>Version of the layout. Keys are added within a version, never renamed or removed.</summary>
    public const int Schema = 1;

    private static readonly JsonSerializerOptions Json = new(FileGrainStorage.Json) { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static async Task WriteAsync(IArtifacts artifacts, ExperimentSummary summary, ExperimentSubmission submission, ExperimentSpec spec, TrialTable trials, string? reason)
    {
        var best = trials.Best();
        var files = await artifacts.FilesAsync(summary.Id);
        var report = new
        {
            schema = Schema,
            experiment = summary,
            reason,
            spec = JsonNode.Parse(submission.SpecJson),
            specSha256 = submission.SpecSha256,
            objective = new { spec.Ranked()[0].Metric, spec.Ranked()[0].Goal, bestTrial = best, bestValue = best is { } b ? trials.ObjectiveOf(b) : null },
            front = trials.Front(),
            seeds = new { training = spec.Training.Seed, heldOut = (spec.HeldOut ?? new HeldOutSpec()).Seed, search = spec.Algorithm.Seed },
            resources = new { spec.Resources.Device, spec.Resources.Threads, spec.Model.Dtype },
            modelSha256 = trials.ModelSha256,
            versions = new
            {
                adjointDpm = VersionOf(typeof(ExperimentReport)),
                torchSharp = VersionOf(typeof(TorchSharp.torch)),
                orleans = VersionOf(typeof(Grain)),
                dotnet = Environment.Version.ToString(),
                os = RuntimeInformation.OSDescription,
                architecture = RuntimeInformation.ProcessArchitecture.ToString(),
            },
            trials = Enumerable.Range(0, trials.Count).Select(index => Trial(files, trials.WithLosses(index), trials.TotalsOf(index))),
        };
        await artifacts.WriteReportAsync(summary.Id, JsonSerializer.SerializeToUtf8Bytes(report, Json));
    }

    // The package's version, without the commit that some builds append.
    private static string VersionOf(Type type) =>
        type.Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? type.Assembly.GetName().Version?.ToString() ?? "unknown";

    private static object Trial(ILookup<string, string> files, TrialSnapshot trial, TrialTotals totals) => new
    {
        trial.Index,
        trial.State,
        trial.Reason,
        trial.Parameters,
        trial.Step,
        trial.Steps,
        trial.Metrics,
        trial.ParametersSha256,
        trial.LedgerSha256,
        trial.Proof,
        trial.LossHistory,
        trial.StartedAt,
        trial.EndedAt,
        seconds = (trial.EndedAt - trial.StartedAt)?.TotalSeconds,
        trial.ShardsReissued,
        cost = totals,
        artifacts = trial.ArtifactFolder is null ? [] : files[IArtifacts.NameOf(trial.Index)],
    };
}
