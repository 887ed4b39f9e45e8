using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class SubmitCommand
{
    private static readonly string[] Verbs = ["watch", "show", "cancel"];

    public static Command Create(ClientContext context)
    {
        var command = new Command("submit", "Hand an experiment to a cluster. The same file again finds the same experiment.");
        var file = SharedOptions.SpecFile();
        command.Arguments.Add(file);
        var target = new TargetOptions(command);
        var set = SharedOptions.Set();
        var watch = new Option<bool>("--watch") { Description = "Then follow it to its end, as 'adpm watch' does." };
        var paths = new Option<bool?>("--paths-on-silos") { Description = "Whether paths in FILE are those of the silos, which look for them then, and not of this machine. Default: true with --gateway.", HelpName = "true|false" };
        var json = SharedOptions.Json();
        command.Options.Add(set);
        command.Options.Add(watch);
        command.Options.Add(paths);
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (id, submission, _) = await SpecFile.ReadResolvedAsync(parsed.GetRequiredValue(file), parsed.GetValue(set) ?? [], context, parsed.GetValue(paths) ?? target.IsElsewhere(parsed, context), cancellationToken);
            var (cluster, where) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var receipt = await cluster.SubmitAsync(id, submission with { Command = ShellWords.Command(parsed.Tokens.Select(token => token.Value)) }, cancellationToken);
                if (parsed.GetValue(json))
                {
                    var document = new ReceiptDocument(receipt.ExperimentId, receipt.Existed, receipt.Trials, submission.SpecSha256);
                    context.Terminal.WriteRaw(parsed.GetValue(watch) ? ClientJson.Line(document) : ClientJson.Text(document));
                }
                else
                {
                    context.Terminal.WriteRaw($"{receipt.ExperimentId}: {(receipt.Existed ? "was submitted before, " : "")}{Words.Count(receipt.Trials, "trial")}");
                }

                if (parsed.GetValue(watch)) return await WatchCommand.FollowAsync(context, cluster, receipt.ExperimentId, where, parsed.GetValue(json), cancellationToken);
                if (!parsed.GetValue(json))
                {
                    // Advice is not the result: what a script reads is the one line above.
                    context.Terminal.Note("Next:");
                    foreach (var verb in Verbs) context.Terminal.Note(Markup.Escape($"  adpm {verb} {receipt.ExperimentId}{where.Options}"));
                }

                return ExitCodes.Ok;
            }
        });
        return command;
    }
}
