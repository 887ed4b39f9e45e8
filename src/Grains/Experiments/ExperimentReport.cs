using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using AdjointDpm.Grains.Pages;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Storage;

namespace AdjointDpm.Grains.Experiments;

/// <summary>The record of an experiment: <c>report.json</c> at its place, with all that is needed to repeat and to judge it.</summary>
internal static class ExperimentReport
{
    /// <summary>Version of the layout. Keys are added within a version, never renamed or removed.</summary>
    public const int Schema = 1;

    private static readonly JsonSerializerOptions Json = new(FileGrainStorage.Json) { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Trials whose steps are told one by one, the best first, and how many steps of each: what people look at, and a file that can be mailed.</summary>
    private const int MostWithSteps = 12, MostSteps = 120;

    /// <param name="artifacts">Where to.</param>
    /// <param name="summary">The experiment at its end.</param>
    /// <param name="submission">What was submitted, with the spec as it was edited.</param>
    /// <param name="spec">The same spec.</param>
    /// <param name="trials">Its trials.</param>
    /// <param name="reason">Why it did not succeed.</param>
    /// <param name="steps">Steps of a trial and what was observed of them.</param>
    public static async Task WriteAsync(IArtifacts artifacts, ExperimentSummary summary, ExperimentSubmission submission, ExperimentSpec spec, TrialTable trials, string? reason, Func<int, Task<IReadOnlyList<TrialStep>>> steps)
    {
        var best = trials.Best();
        var told = new Dictionary<int, IReadOnlyList<TrialStep>>();
        foreach (var trial in trials.Ranked().Take(MostWithSteps))
            told[trial] = Told(await steps(trial));
        var files = await artifacts.FilesAsync(summary.Id);
        var report = new
        {
            schema = Schema,
            experiment = summary,
            reason,
            spec = JsonNode.Parse(submission.SpecJson),
            specSha256 = submission.SpecSha256,
            labels = submission.Labels,
            command = submission.Command,
            objective = new { spec.Ranked()[0].Metric, spec.Ranked()[0].Goal, bestTrial = best, bestValue = best is { } b ? trials.ObjectiveOf(b) : null },
            front = trials.Front(),
            seeds = new { training = spec.Training.Seed, heldOut = (spec.HeldOut ?? new HeldOutSpec()).Seed, search = spec.Algorithm.Seed },
            resources = new { spec.Resources.Device, spec.Resources.Threads, spec.Model.Dtype },
            modelSha256 = trials.ModelSha256,
            versions = new
            {
                adjointDpm = VersionOf(typeof(ExperimentReport)),
                torchSharp = VersionOf(typeof(TorchSharp.torch)),
                libtorch = TorchSharp.torch.__version__,
                orleans = VersionOf(typeof(Grain)),
                dotnet = Environment.Version.ToString(),
                os = RuntimeInformation.OSDescription,
                architecture = RuntimeInformation.ProcessArchitecture.ToString(),
            },
            hardware = Enumerable.Range(0, trials.Count).SelectMany(index => trials.TotalsOf(index).Hardware).Distinct().Order(StringComparer.Ordinal),
            trials = Enumerable.Range(0, trials.Count).Select(index => Trial(files, trials.WithLosses(index), trials.TotalsOf(index), told.GetValueOrDefault(index))),
        };
        await artifacts.WriteReportAsync(summary.Id, JsonSerializer.SerializeToUtf8Bytes(report, Json));
    }

    // The package's version, without the commit that some builds append.
    private static string VersionOf(Type type) =>
        type.Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? type.Assembly.GetName().Version?.ToString() ?? "unknown";

    /// <summary>Evenly chosen, and those at which held-out samples were looked at; shard by shard only the newest.</summary>
    private static IReadOnlyList<TrialStep> Told(IReadOnlyList<TrialStep> steps)
    {
        var looks = Chart.Thin([.. steps.Where(step => step.Profile is { HeldOut: not null } or { Picture: not null })], MostSteps / 2);
        return [.. Chart.Thin(steps, MostSteps / 2).Union(looks).OrderBy(step => step.Step).Select(step => step.Step == steps[^1].Step || step.Profile?.Shards is null ? step : step with { Profile = step.Profile with { Shards = null } })];
    }

    private static object Trial(ILookup<string, string> files, TrialSnapshot trial, TrialTotals totals, IReadOnlyList<TrialStep>? steps) => new
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
        trial.Arithmetic,
        notices = trial.Notices(),
        cost = totals,
        history = steps,
        artifacts = trial.ArtifactFolder is null ? [] : files[ResultNames.OfTrial(trial.Index)],
    };
}
