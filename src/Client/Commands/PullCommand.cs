using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Tools;
using AdjointDpm.Grains.Audit;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Tools;
using Spectre.Console;
using static System.FormattableString;

namespace AdjointDpm.Client.Commands;

internal static partial class PullCommand
{
    private static readonly string[] Forms = ["diffusers", "single-file", "lora", "kohya", "peft", "embedding"];

    public static Command Create(ClientContext context)
    {
        var command = new Command("pull", "Write a trial's result in the form that other programs load. Files are read back and compared before success is reported. Reads the data folder when there is one, with no cluster running.");
        var what = new Argument<string>("ID[/TRIAL]") { Description = "An experiment, for its best trial; or one of its trials, from 0." };
        var output = new Argument<string>("OUT") { Description = "A folder, or a path ending in .safetensors where the form is one file." };
        var form = new Option<string>("--as") { Description = "diffusers or single-file for the tuned model; lora for both dialects, kohya or peft for one; embedding for learnt words and prompts.", HelpName = "form", Required = true };
        form.AcceptOnlyFromAmong(Forms);
        var model = new Option<string?>("--model") { Description = "Folder, file, or name in the Hugging Face cache, of the model that was trained, which adapters are compared on. Default: the experiment's.", HelpName = "folder" };
        var dtype = new Option<string?>("--dtype") { Description = "Weights of a model as float32, float16 or bfloat16. Default: float32.", HelpName = "dtype" };
        var target = new TargetOptions(command);
        var json = SharedOptions.Json();
        what.CompletionSources.Add(completion => IdCompletions.Of(context, completion, trials: true));
        command.Arguments.Add(what);
        command.Arguments.Add(output);
        foreach (var option in new Option[] { form, model, dtype, json }) command.Options.Add(option);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (id, trial) = Parse(parsed.GetRequiredValue(what));
            var where = target.Target(parsed, context);
            // What was fetched is needed until the tool has read it.
            using var fetched = new FetchedResults();
            var result = where.DataFolder is { } folder ? OfFolder(folder, id, trial) : await OfClusterAsync(parsed, fetched, id, trial, cancellationToken);
            if (!File.Exists(Path.Combine(result.Artifacts, ResultNames.Manifest)))
                throw new CommandFailure(ExitCodes.Failed, $"Trial {result.Trial} of '{result.Id}' has no results at '{result.Artifacts}'.", "It did not end yet, or it failed. See 'adpm show'.");

            var basis = parsed.GetValue(model) is { } given ? ModelPath.Of(context, given) : result.Basis.Model;
            var answer = await ToolRun.AskAsync(
                context,
                new PullRequest(result.Artifacts, parsed.GetRequiredValue(form), Path.GetFullPath(parsed.GetRequiredValue(output), context.CurrentDirectory), Invariant($"{result.Id}-{result.Trial}"), Invariant($"adpm {result.Id}/{result.Trial}"))
                {
                    BaseModel = basis, BaseLoras = result.Basis.Loras, BasePrediction = result.Basis.Prediction, Dtype = parsed.GetValue(dtype),
                },
                cancellationToken);
            if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new FilesDocument(answer.Files ?? [], answer.Message)));
            else
            {
                foreach (var file in answer.Files ?? [])
                    context.Terminal.Line(Markup.Escape(context.Short(file)));
                context.Terminal.Note(Markup.Escape(answer.Message ?? ""));
            }

            return ExitCodes.Ok;
        });
        return command;

        async Task<Result> OfClusterAsync(ParseResult parsed, FetchedResults fetched, string text, int? trial, CancellationToken cancellationToken)
        {
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiment = await ExperimentLookup.FindAsync(cluster, text, cancellationToken);
                var index = trial ?? experiment.BestTrial ?? throw NoBest(experiment.Summary.Id);
                var results = fetched.Add(new Results(context, cluster, experiment));
                // Pictures and curves are not what other programs load.
                var place = await results.FetchAsync(index, file => !file.Path.EndsWith(".png", StringComparison.Ordinal), cancellationToken) ?? Path.Combine(experiment.ArtifactFolder, ResultNames.OfTrial(index));
                return new(experiment.Summary.Id, index, place, BasisOf(experiment.SpecJson));
            }
        }
    }

    /// <summary>From the report of an experiment that ended.</summary>
    private static Result OfFolder(string data, string text, int? trial)
    {
        var id = ExperimentLookup.Among(new RunFolder(data).Experiments(), text, $"The data folder '{data}' holds no trial of any experiment.");
        var folder = Path.Combine(data, "experiments", id);
        var report = Path.Combine(folder, ResultNames.Report);
        if (!File.Exists(report))
            throw new CommandFailure(ExitCodes.Failed, $"'{id}' has not ended: there is no '{report}'.", "Follow it with 'adpm watch'; name the cluster with --gateway to pull a trial that did end.");
        using var json = JsonDocument.Parse(File.ReadAllBytes(report));
        var best = json.RootElement.TryGetProperty("objective", out var objective) && objective.TryGetProperty("bestTrial", out var number) && number.ValueKind == JsonValueKind.Number ? number.GetInt32() : (int?)null;
        var index = trial ?? best ?? throw NoBest(id);
        return new(id, index, Path.Combine(folder, ResultNames.OfTrial(index)), BasisOf(json.RootElement.GetProperty("spec").GetRawText()));
    }

    // The spec may be of another release: only this of it is needed.
    private static Basis BasisOf(string specJson)
    {
        using var json = JsonDocument.Parse(specJson);
        if (!json.RootElement.TryGetProperty("model", out var model))
            return new(null, null, null);
        return new(
            model.TryGetProperty("path", out var path) ? path.GetString() : null,
            model.TryGetProperty("loras", out var loras) ? [.. loras.EnumerateArray().Select(l => Invariant($"{l.GetProperty("path").GetString()}:{l.GetProperty("weight").GetDouble():R}"))] : null,
            model.TryGetProperty("prediction", out var prediction) ? prediction.GetString() : null);
    }

    private static CommandFailure NoBest(string id) => new(ExitCodes.Failed, $"No trial of '{id}' has succeeded, so there is none to pull.", "See 'adpm show'.");

    private static (string Id, int? Trial) Parse(string text) =>
        Trial().Match(text) is { Success: true } match && int.TryParse(match.Groups["trial"].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture, out var trial) ? (match.Groups["id"].Value, trial)
        : !text.Contains('/', StringComparison.Ordinal) ? (text, null)
        : throw new CommandFailure(ExitCodes.Invalid, $"'{text}' names no experiment and no trial.", "Write ID or ID/TRIAL, such as digits-1a2b3c4d/0.");

    [GeneratedRegex(@"^(?<id>[^/]+)/(?<trial>\d+)\z")]
    private static partial Regex Trial();

    private sealed record Result(string Id, int Trial, string Artifacts, Basis Basis);

    /// <summary>What was trained on.</summary>
    private sealed record Basis(string? Model, IReadOnlyList<string>? Loras, string? Prediction);
}
