using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Progress;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Client.Reporting;
using AdjointDpm.Grains.Experiments;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class WatchCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("watch", "Follow an experiment to its end. Ctrl-C stops the following only.");
        var id = SharedOptions.ExperimentId(context);
        command.Arguments.Add(id);
        var target = new TargetOptions(command);
        var json = new Option<bool>("--json") { Description = "Print every event as a line of JSON, and the experiment as the last line." };
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (cluster, where) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiment = await ExperimentLookup.FindAsync(cluster, parsed.GetRequiredValue(id), cancellationToken);
                return await FollowAsync(context, cluster, experiment.Summary.Id, where, parsed.GetValue(json), cancellationToken);
            }
        });
        return command;
    }

    public static async Task<int> FollowAsync(ClientContext context, IClusterConnection cluster, string id, ClusterTarget where, bool json, CancellationToken cancellationToken)
    {
        ExperimentSnapshot ended;
        try
        {
            await WorkersCommand.WarnAsync(context, cluster, cancellationToken);
            await using var report = Report(context, json);
            // Bars show what is; a log shows what was, too.
            var after = report is LiveProgress && await cluster.GetSnapshotAsync(id, cancellationToken) is { } now ? now.Sequence : 0;
            ended = await new Follower(cluster, report, context.Time).ToEndAsync(id, after, cancellationToken);
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            context.Terminal.Note($"The experiment goes on. Follow it again with: adpm watch {id}{Markup.Escape(where.Options)}");
            return ExitCodes.Interrupted;
        }
        catch (ClusterUnreachableException e)
        {
            throw Away(e, id, where);
        }

        // A run that lost its own client has nobody else to write it.
        if (where.DataFolder is not null) ReportWriter.WriteBeside(context, ended);
        if (json) context.Terminal.WriteRaw(ClientJson.Line(ExperimentDocumentJson.Of(ended)));
        else ExperimentView.Show(context.Terminal, ended, context.Time);
        return ended.Summary.State == RunState.Succeeded ? ExitCodes.Ok : ExitCodes.Failed;
    }

    /// <summary>A cluster that is away says nothing about the experiment, which goes on when its silos do.</summary>
    public static CommandFailure Away(ClusterUnreachableException e, string id, ClusterTarget where) =>
        new(ExitCodes.Unreachable, e.Message, $"What was committed is kept, and the experiment goes on with its silos. Pick it up again with: adpm watch {id}{where.Options}", e);

    /// <summary>How a run is followed: on a terminal drawn anew, in a log line by line.</summary>
    public static IProgressReport Report(ClientContext context, bool json) =>
        json ? new JsonProgress(context.Terminal)
        : context.Terminal.Live ? new LiveProgress(context.Terminal, context.Time)
        : new LineProgress(context.Terminal, context.Time);
}
