using System.Globalization;
using AdjointDpm.Grains.Workers;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>Workers, and what they do.</summary>
internal static class WorkersView
{
    private const int ShortFailure = 80;

    /// <summary>One worker a row; a few lines each where the rows do not fit.</summary>
    public static void List(Terminal terminal, IReadOnlyList<WorkerDescription> workers, TimeZoneInfo zone)
    {
        var table = TrialTable.Plain();
        TrialTable.Add(table, "WORKER", "STATE", "DONE", "WORK", "LAST FAILURE");
        foreach (var worker in workers)
            table.AddRow(new Markup(Markup.Escape(worker.Name)), new Markup(StateMarkup(worker)), new Markup(Done(worker)), new Markup(Markup.Escape(Work(worker))), new Markup(Markup.Escape(Failure(worker, zone))));
        Unlike(terminal, workers);
        if (terminal.Out.Fits(table))
        {
            terminal.Write(table);
            return;
        }

        foreach (var worker in workers)
        {
            terminal.Line($"[bold]{Markup.Escape(worker.Name)}[/]  {StateMarkup(worker)}  {Done(worker)} done");
            if (worker.Work.Count > 0) terminal.Line($"    {Markup.Escape(Work(worker))}");
            if (worker.LastFailure is not null) terminal.Line($"    last failure: {Markup.Escape(Failure(worker, zone))}");
        }
    }

    private static void Unlike(Terminal terminal, IReadOnlyList<WorkerDescription> workers)
    {
        var kinds = workers.Where(worker => worker.Arithmetic is not null).GroupBy(worker => worker.Arithmetic!).OrderByDescending(workers => workers.Count()).ThenBy(workers => workers.Key, StringComparer.Ordinal).ToList();
        if (kinds.Count > 1)
            terminal.Note($"[yellow]These workers round differently:[/] {string.Join("; ", kinds.Select(workers => Markup.Escape($"{workers.Key}: {string.Join(", ", workers.Select(worker => worker.Name))}")))}. A trial stays with those of one kind.");
    }

    /// <summary>Columns of a list of workers.</summary>
    public static IReadOnlyList<ListColumn<WorkerDescription>> Columns(TimeZoneInfo zone) =>
    [
        new("WORKER", worker => worker.Name),
        new("SILO", worker => worker.Silo, Wide: true),
        new("DEVICE", worker => worker.Device, Wide: true),
        new("STATE", worker => worker.State.ToString().ToLowerInvariant(), StateMarkup),
        new("ARITHMETIC", worker => worker.Arithmetic ?? "", Wide: true),
        new("CORDONED", worker => worker.Cordoned ? "yes" : "no", Wide: true),
        new("DONE", Done),
        new("WORK", Work),
        new("HELD", worker => worker.Work.Count.ToString(CultureInfo.InvariantCulture), Wide: true),
        new("LAST FAILURE", worker => Failure(worker, zone)),
    ];

    /// <summary>What became of a worker that was cordoned or uncordoned.</summary>
    public static string Cordoned(WorkerDescription worker) => worker switch
    {
        { Cordoned: false } => $"{worker.Name} gets shards.",
        { State: WorkerState.Absent } => $"{worker.Name} is cordoned. Its silo is away.",
        { State: WorkerState.Silent } => $"{worker.Name} is cordoned. Its silo does not answer.",
        { Work.Count: > 0 } => $"{worker.Name} is cordoned and ends what it holds: {Work(worker)}.",
        _ => $"{worker.Name} is cordoned and holds no shard.",
    };

    public static string Drained(WorkerDescription worker) => worker.State == WorkerState.Absent ? $"{worker.Name} is drained: its silo is away." : $"{worker.Name} is drained: it holds no shard and gets none.";

    /// <summary>What keeps a worker from being drained.</summary>
    public static string Holds(WorkerDescription worker) => worker.State == WorkerState.Silent ? $"{worker.Name} does not answer" : $"{worker.Name} holds {Work(worker)}";

    private static string StateMarkup(WorkerDescription worker) => worker.State switch
    {
        WorkerState.Ready => "[green]ready[/]",
        WorkerState.Busy => "[blue]busy[/]",
        WorkerState.Cordoned => "[yellow]cordoned[/]",
        WorkerState.Draining => "[yellow]draining[/]",
        WorkerState.Absent => "[yellow]cordoned, away[/]",
        _ => worker.Cordoned ? "[red]cordoned, silent[/]" : "[red]silent[/]",
    };

    private static string Done(WorkerDescription worker) => worker.State is WorkerState.Absent or WorkerState.Silent ? "" : worker.ShardsDone.ToString(CultureInfo.InvariantCulture);

    /// <summary>What the device computes, and how much more there is.</summary>
    private static string Work(WorkerDescription worker)
    {
        if (worker.Work.Count == 0) return "";
        var first = worker.Work.FirstOrDefault(work => work.Progress == WorkProgress.Running) ?? worker.Work[0];
        var delivering = first.Progress == WorkProgress.Delivering ? " (delivering)" : "";
        return string.Create(CultureInfo.InvariantCulture, $"{first.Run} {What(first)}{delivering}{(worker.Work.Count > 1 ? $", {worker.Work.Count - 1} more" : "")}");
    }

    private static string What(WorkInHand work) => work.Kind switch
    {
        "gradient" => string.Create(CultureInfo.InvariantCulture, $"step {work.Step} shard {work.Shard}"),
        "evaluateBefore" => string.Create(CultureInfo.InvariantCulture, $"evaluation before, part {work.Shard}"),
        "evaluateAfter" => string.Create(CultureInfo.InvariantCulture, $"evaluation after, part {work.Shard}"),
        "prepare" => "loading the model",
        "prove" => "proof of the gradient",
        "save" => "saving",
        var other => other, // a silo of a later version
    };

    private static string Failure(WorkerDescription worker, TimeZoneInfo zone)
    {
        if (worker.LastFailure is not { } reason) return "";
        var line = reason.Split('\n', 2)[0];
        var text = line.Length > ShortFailure ? line[..(ShortFailure - 1)] + "…" : line;
        return worker.LastFailureAt is { } at ? $"{Words.Time(at, zone)} {text}" : text;
    }
}
