using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Rendering.Pictures;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class ShowCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("show", "Show an experiment and its trials, or one trial with its curves and pictures.");
        var id = TrialName.Argument(context);
        command.Arguments.Add(id);
        var target = new TargetOptions(command);
        var skip = new Option<int>("--skip") { Description = "Show trials from this index on.", HelpName = "n" }.Within(0);
        var limit = new Option<int?>("--limit") { Description = $"Show at most this many trials. An experiment with more than {ExperimentSnapshot.MostTrials} shows those that run, the best and the first others.", HelpName = "n" }.Within(0);
        command.Options.Add(skip);
        command.Options.Add(limit);
        var json = SharedOptions.Json();
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (text, trial) = TrialName.Parse(parsed.GetRequiredValue(id));
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiment = await ExperimentLookup.FindAsync(cluster, text, cancellationToken);
                if (trial is { } index)
                {
                    if (await cluster.GetTrialsAsync(experiment.Summary.Id, index, 1, cancellationToken) is not [var one])
                        throw new CommandFailure(ExitCodes.Failed, $"'{experiment.Summary.Id}' has no trial {index}.", "List them with 'adpm trials ID'.");
                    if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new TrialsDocument(experiment.Summary.Id, 1, [TrialDocument.Of(one)])));
                    else
                    {
                        TrialView.Show(context, experiment, one, await cluster.GetStepsAsync(experiment.Summary.Id, index, cancellationToken));
                        using var results = new Results(context, cluster, experiment);
                        if (await results.PathAsync(index, "before-after.png", cancellationToken) is { } path) PictureView.Show(context, "Before and after", path);
                    }

                    return ExitCodes.Ok;
                }

                if (parsed.GetValue(limit) is not null || parsed.GetValue(skip) > 0)
                    experiment = experiment with { Trials = await PageAsync(cluster, experiment.Summary.Id, parsed.GetValue(skip), parsed.GetValue(limit) ?? int.MaxValue, cancellationToken) };
                if (parsed.GetValue(json))
                {
                    context.Terminal.WriteRaw(ClientJson.Text(ExperimentDocumentJson.Of(experiment)));
                    return ExitCodes.Ok;
                }

                ExperimentView.Show(context.Terminal, experiment, context.Time);
                if (experiment.Trials.Count < experiment.Summary.Trials)
                    context.Terminal.Note($"{experiment.Trials.Count} of {Words.Count(experiment.Summary.Trials, "trial")} shown. Page with --skip and --limit.");
                context.Terminal.Line();
                context.Terminal.Line($"Artefacts: {Markup.Escape(context.Short(experiment.ArtifactFolder))}");
                return ExitCodes.Ok;
            }
        });
        return command;
    }

    private static async Task<IReadOnlyList<TrialSnapshot>> PageAsync(IClusterConnection cluster, string id, int skip, int limit, CancellationToken cancellationToken)
    {
        var trials = new List<TrialSnapshot>();
        while (trials.Count < limit && await cluster.GetTrialsAsync(id, skip + trials.Count, Math.Min(ExperimentSnapshot.MostTrials, limit - trials.Count), cancellationToken) is { Count: > 0 } page)
            trials.AddRange(page);
        return trials;
    }
}
