using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Commands;

internal static class ListCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("ls", "List experiments, newest first.");
        var target = new TargetOptions(command);
        var limit = new Option<int>("--limit") { Description = "At most this many.", DefaultValueFactory = _ => 50, HelpName = "n" }.Within(1, 10_000);
        var json = SharedOptions.Json();
        var label = new Option<string[]>("--label") { Description = "Only experiments with this label of metadata.labels. Repeatable: all of them.", HelpName = "name=value", Arity = ArgumentArity.OneOrMore };
        command.Options.Add(limit);
        command.Options.Add(label);
        command.Options.Add(json);
        var form = Listing.Option();
        command.Options.Add(form);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiments = await FindAsync(cluster, [.. (parsed.GetValue(label) ?? []).Select(Label)], parsed.GetValue(limit), cancellationToken);
                if (parsed.GetValue(json) || parsed.GetValue(form) == ListFormat.Json) context.Terminal.WriteRaw(ClientJson.Text(new ExperimentsDocument([.. experiments.Select(ExperimentLine.Of)])));
                else if (experiments.Count == 0 && parsed.GetValue(form) is ListFormat.Table or ListFormat.Wide) context.Terminal.Note("No experiments yet. Start one with 'adpm submit FILE'.");
                else Listing.Write(context.Terminal, parsed.GetValue(form), experiments, ExperimentView.Columns(context.Time), experiment => experiment.Id);
                return ExitCodes.Ok;
            }
        });
        return command;
    }

    /// <summary>Those with all labels, the newest first.</summary>
    private static async Task<IReadOnlyList<ExperimentSummary>> FindAsync(IClusterConnection cluster, IReadOnlyList<KeyValuePair<string, string>> labels, int limit, CancellationToken cancellationToken)
    {
        if (labels.Count == 0) return await cluster.ListAsync(0, limit, cancellationToken);
        return await ExperimentLookup.AllAsync(cluster, cancellationToken)
            .Where(experiment => labels.All(label => experiment.Labels?.GetValueOrDefault(label.Key) == label.Value))
            .Take(limit).ToListAsync(cancellationToken);
    }

    private static KeyValuePair<string, string> Label(string text) => text.IndexOf('=') is > 0 and var equals
        ? new(text[..equals], text[(equals + 1)..])
        : throw new CommandFailure(ExitCodes.Invalid, $"--label: '{text}' is not name=value.", "Write it like --label team=vision.");
}
