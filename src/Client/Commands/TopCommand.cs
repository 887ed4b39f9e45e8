using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Workers;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace AdjointDpm.Client.Commands;

internal static class TopCommand
{
    private const int MostExperiments = 10;

    public static Command Create(ClientContext context)
    {
        var command = new Command("top", "Show what the cluster does now: experiments under way and every worker, again and again until Ctrl-C. Not on a terminal: once.");
        var interval = new Option<int>("--interval") { Description = "Seconds between two looks.", DefaultValueFactory = _ => 2, HelpName = "seconds" }.Within(1, 3600);
        var json = SharedOptions.Json();
        command.Options.Add(interval);
        command.Options.Add(json);
        var target = new TargetOptions(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (cluster, where) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                if (parsed.GetValue(json))
                {
                    var (workers, experiments) = await AskAsync(cluster, cancellationToken);
                    context.Terminal.WriteRaw(ClientJson.Text(new TopDocument([.. experiments.Select(ExperimentLine.Of)], workers)));
                    return ExitCodes.Ok;
                }

                if (!context.Terminal.Out.IsTerminal)
                {
                    context.Terminal.Write(await LookAsync(context, cluster, cancellationToken));
                    return ExitCodes.Ok;
                }

                try
                {
                    await context.Terminal.Out.Console.Live(new Text("")).StartAsync(async live =>
                    {
                        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(parsed.GetValue(interval)), context.Time);
                        do live.UpdateTarget(await TryLookAsync(context, cluster, where, cancellationToken));
                        while (await timer.WaitForNextTickAsync(cancellationToken));
                    });
                }
                catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
                {
                    // Ctrl-C is how it ends.
                }

                return ExitCodes.Ok;
            }
        });
        return command;
    }

    private static async Task<IRenderable> TryLookAsync(ClientContext context, IClusterConnection cluster, ClusterTarget where, CancellationToken cancellationToken)
    {
        try
        {
            return await LookAsync(context, cluster, cancellationToken);
        }
        catch (ClusterUnreachableException e)
        {
            return new Markup(Markup.Escape($"{where}: {e.Message} Trying again."));
        }
    }

    private static async Task<(IReadOnlyList<WorkerDescription> Workers, IReadOnlyList<ExperimentSummary> Experiments)> AskAsync(IClusterConnection cluster, CancellationToken cancellationToken) =>
        (await cluster.ListWorkersAsync(cancellationToken), [.. (await cluster.ListAsync(0, ExperimentSnapshot.MostTrials, cancellationToken)).Where(one => one.State is RunState.Running or RunState.Paused)]);

    private static async Task<IRenderable> LookAsync(ClientContext context, IClusterConnection cluster, CancellationToken cancellationToken)
    {
        var (workers, experiments) = await AskAsync(cluster, cancellationToken);
        var rows = new List<IRenderable>
        {
            new Markup($"{Words.Count(experiments.Count, "experiment")} under way, {workers.Count(worker => worker.Work.Count > 0)} of {Words.Count(workers.Count, "worker")} busy, {workers.Sum(worker => worker.ShardsDone)} shards done"),
            new Text(""),
        };
        foreach (var one in experiments.Take(MostExperiments))
            rows.Add(new Markup($"{Markup.Escape(one.Id)}  {Words.StateMarkup(one.State)}  {Bar.Of(one.Trials == 0 ? 0 : (double)one.TrialsEnded / one.Trials, 24)} {one.TrialsEnded} of {Words.Count(one.Trials, "trial")}  {Words.Span(context.Time.GetUtcNow() - one.SubmittedAt)}"));
        if (experiments.Count > MostExperiments) rows.Add(new Markup($"and {experiments.Count - MostExperiments} more"));
        if (experiments.Count > 0) rows.Add(new Text(""));
        rows.Add(Listing.Table(workers, WorkersView.Columns(context.Time.LocalTimeZone), wide: false));
        return new Rows(rows);
    }
}
