using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;

namespace AdjointDpm.Client.Commands;

internal static class ListCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("ls", "List experiments, newest first.");
        var target = new TargetOptions(command);
        var limit = new Option<int>("--limit") { Description = "At most this many.", DefaultValueFactory = _ => 50, HelpName = "n" }.Within(1, 10_000);
        var json = SharedOptions.Json();
        command.Options.Add(limit);
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiments = await cluster.ListAsync(0, parsed.GetValue(limit), cancellationToken);
                if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new ExperimentsDocument([.. experiments.Select(ExperimentLine.Of)])));
                else if (experiments.Count == 0) context.Terminal.Note("No experiments yet. Start one with 'adpm submit FILE'.");
                else context.Terminal.Write(ExperimentView.List(experiments, context.Time));
                return ExitCodes.Ok;
            }
        });
        return command;
    }
}
