using AdjointDpm.Grains.Specs;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>Problems of a spec with the lines that they are in, as compilers print them.</summary>
internal static class ProblemView
{
    public static void Show(Outlet outlet, IReadOnlyList<SpecProblem> problems, IReadOnlyList<string> lines)
    {
        foreach (var problem in problems)
        {
            var kind = problem.Severity == SpecSeverity.Error ? "[red]error:[/]" : "[yellow]note:[/]";
            outlet.Line($"[bold]{Markup.Escape(problem.File)}:{problem.Line}:{problem.Column}:[/] {kind} {Markup.Escape(problem.Message)}");
            if (problem.Line > lines.Count || lines[problem.Line - 1].Trim().Length == 0) continue;
            // Tabs would shift the caret; other control characters have no business in a terminal.
            var source = string.Concat(lines[problem.Line - 1].Select(c => char.IsControl(c) ? ' ' : c));
            var number = problem.Line.ToString(System.Globalization.CultureInfo.InvariantCulture).PadLeft(5);
            var column = Math.Min(problem.Column, source.Length + 1);
            // A window that holds the place, for lines longer than the terminal.
            var room = Math.Max(20, outlet.Width - 9);
            var from = Math.Max(0, Math.Min(column - 1 - (room / 2), source.Length - room));
            var shown = source.Substring(from, Math.Min(room, source.Length - from)).TrimEnd();
            var caret = new string('^', Math.Max(1, Math.Min(problem.Length, room - (column - 1 - from))));
            outlet.Line($"[grey]{number} |[/] {Markup.Escape(shown)}");
            outlet.Line($"[grey]{new string(' ', 5)} |[/] {new string(' ', column - 1 - from)}[red]{caret}[/]");
        }
    }
}
