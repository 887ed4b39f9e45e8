using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Specs;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class ImportCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("import", "Print the search of a sweep file of W&B, Katib or Determined as it is written here, or an experiment with that search.");
        var file = new Argument<string>("SWEEP") { Description = "The sweep file, YAML." };
        var into = new Option<string?>("--into") { Description = "An experiment: it is printed whole, with the sweep's objective, algorithm, parameters and limits in place of its own, and checked.", HelpName = "file" };
        var map = new Option<string[]>("--map") { Description = "What a parameter or metric of the sweep is called here, such as lr=optimizer.learningRate. Repeatable.", HelpName = "name=path", Arity = ArgumentArity.OneOrMore };
        command.Arguments.Add(file);
        command.Options.Add(into);
        var json = SharedOptions.Json();
        command.Options.Add(map);
        command.Options.Add(json);
        command.SetAction(parsed =>
        {
            var name = parsed.GetRequiredValue(file);
            var names = (parsed.GetValue(map) ?? []).Select(Pair).DistinctBy(pair => pair.Key).ToDictionary();
            var text = Text(name);
            var import = SweepImport.Read(text, name, names);
            if (import.Search is not { } search) throw new SpecFailure(import.Problems, text.Split('\n'));
            foreach (var note in import.Notes) context.Terminal.Note(Markup.Escape($"note: {note}"));
            var asJson = parsed.GetValue(json);
            context.Terminal.WriteRaw(parsed.GetValue(into) is { } experiment ? Into(experiment, search, asJson, context) : asJson ? search.ToJsonString(new JsonSerializerOptions(ExperimentSpecJson.Options) { WriteIndented = true, NewLine = "\n" }) : ExperimentYaml.Part(search));
            return ExitCodes.Ok;
        });
        return command;
    }

    private static string Into(string experiment, JsonObject search, bool asJson, ClientContext context)
    {
        var (_, submission, _) = SpecFile.Read(experiment, [], context);
        var spec = JsonNode.Parse(submission.SpecJson)!.AsObject();
        foreach (var key in new[] { "objective", "objectives", "algorithm", "parameters", "maxTrials", "earlyStopping", "budget", "maxConcurrentTrials" })
        {
            spec.Remove(key);
            if (search[key] is { } value) spec[key] = value.DeepClone();
        }

        try
        {
            var whole = ExperimentSpecJson.Serialize(ExperimentSpecJson.Deserialize(spec.ToJsonString()));
            return asJson ? ExperimentYaml.Json(submission.Name, whole, submission.Labels) : ExperimentYaml.Write(submission.Name, whole, submission.Labels);
        }
        catch (SpecException e)
        {
            throw new CommandFailure(ExitCodes.Invalid, $"The sweep does not fit '{experiment}': {e.Message}", "Change the experiment or the sweep, or say with --map what its names stand for.", e);
        }
    }

    private static KeyValuePair<string, string> Pair(string map)
    {
        var equals = map.IndexOf('=');
        return equals > 0 && equals < map.Length - 1 ? new(map[..equals], map[(equals + 1)..])
            : throw new CommandFailure(ExitCodes.Invalid, $"--map: '{map}' is not name=path.", "Write it like --map lr=optimizer.learningRate.");
    }

    private static string Text(string file)
    {
        try
        {
            return new FileInfo(file) is { Exists: true, Length: > 1 << 20 } ? throw new CommandFailure(ExitCodes.Invalid, $"'{file}' has more than a megabyte: is this the right file?", null) : File.ReadAllText(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CommandFailure(ExitCodes.Invalid, $"'{file}' cannot be read: {e.Message}", "Name the sweep file.", e);
        }
    }
}
