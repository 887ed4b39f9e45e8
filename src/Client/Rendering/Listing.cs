using System.CommandLine;
using Spectre.Console;

namespace AdjointDpm.Client.Rendering;

/// <summary>Forms of a list.</summary>
internal enum ListFormat
{
    Table,
    Wide,
    Json,
    Csv,
    Name,
}

/// <summary>A column of a list.</summary>
/// <param name="Title">In capitals.</param>
/// <param name="Text">A value in full.</param>
/// <param name="Markup">The same for a table, shorter and in colour; null: as it is.</param>
/// <param name="Wide">Whether it is only for those who ask for more.</param>
/// <param name="Drawn">Whether it is only for the eye, and not in a CSV file.</param>
internal sealed record ListColumn<T>(string Title, Func<T, string> Text, Func<T, string>? Markup = null, bool Wide = false, bool Drawn = false);

/// <summary>Lists in the form that is asked for.</summary>
internal static class Listing
{
    public static Option<ListFormat> Option() => new("--output", "-o") { Description = "table, wide (more columns), json, csv or name (one a line, for scripts).", DefaultValueFactory = _ => ListFormat.Table, HelpName = "form" };

    /// <summary>Writes all forms but JSON, whose documents are the commands' own.</summary>
    public static void Write<T>(Terminal terminal, ListFormat format, IEnumerable<T> rows, IReadOnlyList<ListColumn<T>> columns, Func<T, string> name)
    {
        switch (format)
        {
            case ListFormat.Name:
                foreach (var row in rows) terminal.WriteRaw(name(row));
                break;
            case ListFormat.Csv:
                var told = columns.Where(column => !column.Drawn).ToList();
                terminal.WriteRaw(string.Join(',', told.Select(column => Quoted(column.Title.Any(char.IsLower) ? column.Title : column.Title.ToLowerInvariant()))));
                foreach (var row in rows) terminal.WriteRaw(string.Join(',', told.Select(column => Quoted(column.Text(row)))));
                break;
            default:
                terminal.Write(Table(rows, columns, format == ListFormat.Wide));
                break;
        }
    }

    public static Table Table<T>(IEnumerable<T> rows, IReadOnlyList<ListColumn<T>> columns, bool wide)
    {
        var shown = columns.Where(column => !column.Wide || wide).ToList();
        var table = TrialTable.Plain();
        foreach (var column in shown) TrialTable.Add(table, column.Title);
        foreach (var row in rows) table.AddRow(shown.Select(column => new Markup(column.Markup?.Invoke(row) ?? Markup.Escape(column.Text(row)))).ToArray());
        return table;
    }

    // RFC 4180.
    private static string Quoted(string text) => text.AsSpan().IndexOfAny(',', '"', '\n') < 0 && !text.Contains('\r', StringComparison.Ordinal) ? text : $"\"{text.Replace("\"", "\"\"", StringComparison.Ordinal)}\"";
}
