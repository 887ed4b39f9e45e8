using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class ShowCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("show", "Show an experiment and its trials.");
        var id = SharedOptions.ExperimentId();
        command.Arguments.Add(id);
        var target = new TargetOptions(command);
        var json = SharedOptions.Json();
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiment = await ExperimentLookup.FindAsync(cluster, parsed.GetRequiredValue(id), cancellationToken);
                if (parsed.GetValue(json))
                {
                    context.Terminal.WriteRaw(ClientJson.Text(ExperimentDocumentJson.Of(experiment)));
                    return ExitCodes.Ok;
                }

                ExperimentView.Show(context.Terminal, experiment, context.Time);
                context.Terminal.Line();
                context.Terminal.Line($"Artefacts: {Markup.Escape(context.Short(experiment.ArtifactFolder))}");
                return ExitCodes.Ok;
            }
        });
        return command;
    }
}
