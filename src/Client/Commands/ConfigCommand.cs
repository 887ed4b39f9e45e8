using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Grains.Specs;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class ConfigCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("config", "Check an experiment and print it with every default written out: a file that means the same experiment.");
        var file = SharedOptions.SpecFile();
        var set = SharedOptions.Set();
        var json = SharedOptions.Json();
        command.Arguments.Add(file);
        command.Options.Add(set);
        command.Options.Add(json);
        command.SetAction(parsed =>
        {
            var (id, submission, _) = SpecFile.Read(parsed.GetRequiredValue(file), parsed.GetValue(set) ?? [], context);
            context.Terminal.WriteRaw(parsed.GetValue(json)
                ? ExperimentYaml.Json(submission.Name, submission.SpecJson, submission.Labels)
                : ExperimentYaml.Write(submission.Name, submission.SpecJson, submission.Labels));
            context.Terminal.Note($"[grey]Its id is {Markup.Escape(id)}.[/]");
            return ExitCodes.Ok;
        });
        return command;
    }
}
