using AdjointDpm.Grains.Audit;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>A replay for people: what was recomputed, and what differs.</summary>
internal static class ReplayView
{
    public static void Show(Terminal terminal, StepReplay replay)
    {
        var step = $"{Markup.Escape(replay.Run)}@{replay.Step}";
        if (replay.State == ReplayState.Failed)
        {
            terminal.Line($"[red]{step} could not be recomputed:[/] {Markup.Escape(replay.Reason ?? "")}");
            return;
        }

        var from = replay.From == 0 ? "the untrained model" : FormattableString.Invariant($"the kept version of step {replay.From}");
        terminal.Line($"{step}  recomputed from {from}: {Words.Count(replay.StepsDone, "step")}, {Words.Count(replay.ShardsCompared, "shard")}, by {Markup.Escape(string.Join(", ", replay.Workers))}");
        terminal.Line($"  recorded   {replay.RecordedSha256}");
        terminal.Line($"  recomputed {replay.RecomputedSha256 ?? "not reached"}");
        foreach (var difference in replay.Differences) terminal.Line($"  [red]✗[/] {Markup.Escape(difference)}");
        terminal.Line(replay.State == ReplayState.Equal
            ? $"[green]Step {replay.Step} is the recorded one:[/] contents of every shard, metrics, parameters and optimiser state, bit for bit."
            : $"[red]Step {replay.Step} is not the recorded one.[/] Equal bits are promised for an equal kind of device, dtype, threads and version of libtorch.");
    }
}
