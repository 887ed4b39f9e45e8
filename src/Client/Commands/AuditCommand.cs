using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Progress;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Audit;

namespace AdjointDpm.Client.Commands;

internal static class AuditCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("audit", "Prove from an experiment's ledger that every shard of every step counted exactly once. Reads the data folder when there is one, with no cluster running.");
        var id = SharedOptions.ExperimentId(context);
        command.Arguments.Add(id);
        var target = new TargetOptions(command);
        var json = SharedOptions.Json();
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var where = target.Target(parsed, context);
            var (experiment, audits) = where.DataFolder is { } folder
                ? await OfFolderAsync(context, folder, parsed.GetRequiredValue(id), cancellationToken)
                : await OfClusterAsync(parsed, parsed.GetRequiredValue(id), cancellationToken);
            var document = AuditDocument.Of(experiment, audits);
            if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(document));
            else AuditView.Show(context.Terminal, document);
            return document.Holds ? ExitCodes.Ok : ExitCodes.Failed;
        });
        return command;

        async Task<(string, IReadOnlyList<TrialAudit>)> OfClusterAsync(ParseResult parsed, string text, CancellationToken cancellationToken)
        {
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiment = await ExperimentLookup.FindAsync(cluster, text, cancellationToken);
                var audits = new List<TrialAudit>();
                await using var bar = new WorkBar(context.Terminal, context.Time, "auditing trials");
                for (var trial = 0; trial < experiment.Summary.Trials; bar.Report("auditing trials", ++trial, experiment.Summary.Trials))
                    if (await cluster.AuditAsync(experiment.Summary.Id, trial, cancellationToken) is { } audit)
                        audits.Add(audit);
                return (experiment.Summary.Id, audits);
            }
        }
    }

    private static async Task<(string, IReadOnlyList<TrialAudit>)> OfFolderAsync(ClientContext context, string data, string text, CancellationToken cancellationToken)
    {
        var folder = new RunFolder(data);
        var id = ExperimentLookup.Among(folder.Experiments(), text, $"The data folder '{data}' holds no trial of any experiment.");
        var (trials, audits) = (folder.Trials(id).ToList(), new List<TrialAudit>());
        await using var bar = new WorkBar(context.Terminal, context.Time, "auditing trials");
        foreach (var trial in trials)
        {
            audits.Add(await Task.Run(() => folder.Audit(id, trial), cancellationToken));
            bar.Report("auditing trials", audits.Count, trials.Count);
        }

        return (id, audits);
    }
}
