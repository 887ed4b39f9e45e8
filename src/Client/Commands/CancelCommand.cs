using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;

namespace AdjointDpm.Client.Commands;

internal static class CancelCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("cancel", "Stop an experiment after the step in hand.");
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
                var cancelled = await cluster.CancelAsync(experiment.Summary.Id, cancellationToken);
                if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new CancellationDocument(experiment.Summary.Id, cancelled)));
                else if (cancelled) context.Terminal.WriteRaw($"{experiment.Summary.Id}: its trials stop after the step in hand.");
                else context.Terminal.WriteRaw($"{experiment.Summary.Id} had ended already: {Words.State(experiment.Summary.State)}.");
                return ExitCodes.Ok;
            }
        });
        return command;
    }
}
