using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Progress;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Client.Commands;

internal static class EventsCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("events", "Print what happened in an experiment or in one of its trials, the newest last; with --follow on and on, to its end.");
        var id = TrialName.Argument(context);
        var limit = new Option<int>("--limit") { Description = "At most this many, the newest.", DefaultValueFactory = _ => 50, HelpName = "n" }.Within(0, ExperimentSnapshot.MostTrials);
        var follow = new Option<bool>("--follow", "-f") { Description = "Then go on with what happens, until the experiment ends. Ctrl-C stops the following only." };
        var json = new Option<bool>("--json") { Description = "Print every event as a line of JSON." };
        command.Arguments.Add(id);
        command.Options.Add(limit);
        command.Options.Add(follow);
        var target = new TargetOptions(command);
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (text, trial) = TrialName.Parse(parsed.GetRequiredValue(id));
            var (cluster, where) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var experiment = await ExperimentLookup.FindAsync(cluster, text, cancellationToken);
                await using var lines = new EventLines(context.Terminal, trial, parsed.GetValue(json), context.Time.LocalTimeZone);
                // Taken before looking: what happens in between is followed.
                var newest = experiment.Sequence;
                var events = await cluster.GetEventsAsync(experiment.Summary.Id, trial, 0, parsed.GetValue(limit), cancellationToken);
                foreach (var happened in events.Reverse()) lines.Happened(happened);
                if (events is [var last, ..]) newest = Math.Max(newest, last.Sequence);
                if (!parsed.GetValue(follow) || Words.Ended(experiment.Summary.State)) return ExitCodes.Ok;
                try
                {
                    await new Follower(cluster, lines, context.Time).ToEndAsync(experiment.Summary.Id, newest, cancellationToken);
                    return ExitCodes.Ok;
                }
                catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
                {
                    return ExitCodes.Interrupted;
                }
                catch (ClusterUnreachableException e)
                {
                    throw WatchCommand.Away(e, experiment.Summary.Id, where);
                }
            }
        });
        return command;
    }

    /// <summary>One event a line, on standard output.</summary>
    private sealed class EventLines(Terminal terminal, int? trial, bool json, TimeZoneInfo zone) : IProgressReport
    {
        public bool ShowsState => false;

        public void Refresh(ExperimentSnapshot experiment)
        {
        }

        public void Happened(ExperimentEvent happened)
        {
            if (trial is not null && happened.Trial != trial) return;
            terminal.WriteRaw(json ? ClientJson.Line(EventDocument.Of(happened)) : $"{TimeZoneInfo.ConvertTime(happened.Time, zone):yyyy-MM-dd HH:mm:ss}  {EventWords.Of(happened)}");
        }

        public void Notice(string text) => terminal.Note(Spectre.Console.Markup.Escape(text));

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
