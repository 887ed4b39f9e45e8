using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using AdjointDpm.Client.Rendering;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class WorkersCommand
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(500);

    public static Command Create(ClientContext context)
    {
        var command = new Command("workers", "List the cluster's workers, one for each device of each silo, and what they do; cordon and drain them for maintenance.");
        var (target, json) = (new TargetOptions(command), SharedOptions.Json());
        command.Options.Add(json);
        var form = Listing.Option();
        command.Options.Add(form);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var workers = await cluster.ListWorkersAsync(cancellationToken);
                if (parsed.GetValue(json) || parsed.GetValue(form) == ListFormat.Json) context.Terminal.WriteRaw(ClientJson.Text(new WorkersDocument(workers)));
                else if (workers.Count == 0) context.Terminal.Note("The cluster has no workers. Every silo brings one for each of its devices: start a silo, or look again when it has joined.");
                else if (parsed.GetValue(form) == ListFormat.Table) WorkersView.List(context.Terminal, workers, context.Time.LocalTimeZone);
                else Listing.Write(context.Terminal, parsed.GetValue(form), workers, WorkersView.Columns(context.Time.LocalTimeZone), worker => worker.Name);
                return ExitCodes.Ok;
            }
        });
        command.Subcommands.Add(Change(context, "cordon", "Give workers no new shards. Those that they hold end as usual. Holds through restarts, until 'uncordon'.", cordoned: true));
        command.Subcommands.Add(Change(context, "uncordon", "Give workers shards again.", cordoned: false));
        command.Subcommands.Add(Drain(context));
        return command;
    }

    /// <summary>Says to somebody who is about to wait that nobody will work.</summary>
    public static async Task WarnAsync(ClientContext context, IClusterConnection cluster, CancellationToken cancellationToken)
    {
        try
        {
            if (await cluster.ListWorkersAsync(cancellationToken) is { Count: > 0 } workers && workers.All(worker => worker.Cordoned))
                context.Terminal.Note($"[yellow]{AllCordoned}[/] See 'adpm workers', and 'adpm workers uncordon NAME'.");
        }
        catch (ClusterUnreachableException)
        {
            // Whoever waits finds that out.
        }
    }

    private const string AllCordoned = "Every worker of the cluster is cordoned: experiments wait until one is uncordoned.";

    private static Command Change(ClientContext context, string name, string description, bool cordoned)
    {
        var command = new Command(name, description);
        var (names, target, json) = (Names(command), new TargetOptions(command), SharedOptions.Json());
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (cluster, _) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var chosen = parsed.GetRequiredValue(names).Distinct().ToList();
                await CordonAsync(cluster, chosen, cordoned, cancellationToken);
                Tell(context, await cluster.ListWorkersAsync(cancellationToken), chosen, parsed.GetValue(json), WorkersView.Cordoned);
                return ExitCodes.Ok;
            }
        });
        return command;
    }

    private static Command Drain(ClientContext context)
    {
        var command = new Command("drain", "Cordon workers and wait until they hold no shard, as before maintenance of their machine.");
        var (names, target) = (Names(command), new TargetOptions(command));
        var timeout = new Option<int?>("--timeout") { Description = "End with 1 after this long. They stay cordoned. Default: wait as long as it takes.", HelpName = "seconds" }.Within(1, int.MaxValue);
        var json = SharedOptions.Json();
        command.Options.Add(timeout);
        command.Options.Add(json);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var (cluster, where) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var chosen = parsed.GetRequiredValue(names).Distinct().ToList();
                await CordonAsync(cluster, chosen, cordoned: true, cancellationToken);
                try
                {
                    var workers = await DrainedAsync(context, cluster, chosen, parsed.GetValue(timeout), cancellationToken);
                    Tell(context, workers, chosen, parsed.GetValue(json), WorkersView.Drained);
                    return ExitCodes.Ok;
                }
                catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
                {
                    context.Terminal.Note($"They stay cordoned. Wait again with: adpm workers drain {Markup.Escape(string.Join(' ', chosen) + where.Options)}");
                    return ExitCodes.Interrupted;
                }
            }
        });
        return command;
    }

    private static Argument<string[]> Names(Command command)
    {
        var names = new Argument<string[]>("NAME") { Description = "Names of workers, {silo}/{device}, as 'adpm workers' lists them.", Arity = ArgumentArity.OneOrMore };
        command.Arguments.Add(names);
        return names;
    }

    private static async Task CordonAsync(IClusterConnection cluster, IReadOnlyList<string> names, bool cordoned, CancellationToken cancellationToken)
    {
        if (await cluster.CordonAsync(names, cordoned, cancellationToken) is not { Count: > 0 } unknown) return;
        var known = (await cluster.ListWorkersAsync(cancellationToken)).Select(worker => worker.Name).ToList();
        throw new CommandFailure(ExitCodes.Failed, string.Join(' ', unknown.Select(name => $"There is no worker '{name}'.{Meant(name, known)}")), "Nothing was changed. List the workers with 'adpm workers'.");
    }

    /// <summary>A silo's name stands for its first device; else the nearest name.</summary>
    private static string Meant(string name, IReadOnlyList<string> known) =>
        (known.FirstOrDefault(worker => worker.StartsWith(name + "/", StringComparison.Ordinal)) ?? Suggestion.Nearest(name, known)) is { } meant ? $" Did you mean '{meant}'?" : "";

    /// <summary>Waits until they hold nothing, twice in a row: a lease may have been under way when they were cordoned.</summary>
    private static async Task<IReadOnlyList<WorkerDescription>> DrainedAsync(ClientContext context, IClusterConnection cluster, IReadOnlyList<string> names, int? seconds, CancellationToken cancellationToken)
    {
        var (started, told, free) = (context.Time.GetTimestamp(), "", false);
        while (true)
        {
            var workers = await cluster.ListWorkersAsync(cancellationToken);
            var chosen = workers.Where(worker => names.Contains(worker.Name)).ToList();
            if (chosen.Find(worker => !worker.Cordoned) is { } lifted) throw new CommandFailure(ExitCodes.Failed, $"Somebody has uncordoned {lifted.Name} meanwhile.", "It gets shards again. Drain it again if that was not meant.");
            var held = string.Join("; ", chosen.Where(worker => worker.Work.Count > 0 || worker.State == WorkerState.Silent).Select(WorkersView.Holds));
            if (held.Length == 0 && free) return workers;
            free = held.Length == 0;
            if (seconds is { } most && context.Time.GetElapsedTime(started).TotalSeconds >= most)
                throw new CommandFailure(ExitCodes.Failed, $"Not drained after {Words.Span(TimeSpan.FromSeconds(most))}{(free ? "" : $": {held}")}.", "They stay cordoned. The same command waits on.");
            if (held.Length > 0 && held != told) context.Terminal.Note($"[grey]{Markup.Escape(held)}[/]");
            told = held;
            await Task.Delay(Pause, context.Time, cancellationToken);
        }
    }

    private static void Tell(ClientContext context, IReadOnlyList<WorkerDescription> workers, IReadOnlyList<string> names, bool json, Func<WorkerDescription, string> sentence)
    {
        var chosen = workers.Where(worker => names.Contains(worker.Name)).ToList();
        if (json) context.Terminal.WriteRaw(ClientJson.Text(new WorkersDocument(chosen)));
        else foreach (var worker in chosen) context.Terminal.WriteRaw(sentence(worker));
        if (workers.Count > 0 && workers.All(worker => worker.Cordoned)) context.Terminal.Note(AllCordoned);
    }
}
