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
        var form = Listing.Option();
        command.Options.Add(form);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiments = await cluster.ListAsync(0, parsed.GetValue(limit), cancellationToken);
                if (parsed.GetValue(json) || parsed.GetValue(form) == ListFormat.Json) context.Terminal.WriteRaw(ClientJson.Text(new ExperimentsDocument([.. experiments.Select(ExperimentLine.Of)])));
                else if (experiments.Count == 0 && parsed.GetValue(form) is ListFormat.Table or ListFormat.Wide) context.Terminal.Note("No experiments yet. Start one with 'adpm submit FILE'.");
                else Listing.Write(context.Terminal, parsed.GetValue(form), experiments, ExperimentView.Columns(context.Time), experiment => experiment.Id);
                return ExitCodes.Ok;
            }
        });
        return command;
    }
}
