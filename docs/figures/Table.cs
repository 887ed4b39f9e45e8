using System.Globalization;

namespace AdjointDpm.Figures;

/// <summary>A table as a page shows it: text, from which figures are drawn.</summary>
internal sealed record Table(string[] Header, IReadOnlyList<string[]> Rows)
{
    /// <summary>The text of a cell as a number; "10 + 16" is a sum; a dash is none.</summary>
    public static double Number(string cell) => cell == "–" ? double.NaN : cell.Split('+', StringSplitOptions.TrimEntries) is [var a, var b] && !a.EndsWith('e')
        ? Value(a) + Value(b)
        : Value(cell);

    /// <summary>A column as numbers.</summary>
    public double[] Column(string name) => Column(name, Rows);

    /// <summary>A column of some rows as numbers.</summary>
    public double[] Column(string name, IEnumerable<string[]> rows)
    {
        var at = Array.IndexOf(Header, name);
        return at < 0 ? throw new ArgumentException($"The table has no column '{name}', only {string.Join(", ", Header)}.", nameof(name)) : [.. rows.Select(r => Number(r[at]))];
    }

    public string Markdown() => string.Join('\n', Rows.Prepend([.. Header.Select(_ => "---")]).Prepend(Header).Select(r => $"| {string.Join(" | ", r)} |").Select(l => l.Replace("| --- ", "|---", StringComparison.Ordinal).Replace("--- |", "---|", StringComparison.Ordinal)));

    public static Table Parse(string markdown)
    {
        var rows = markdown.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Trim().Trim('|').Split('|', StringSplitOptions.TrimEntries)).ToArray();
        return new(rows[0], rows[2..]);
    }

    private static double Value(string text) => double.Parse(text.Trim('*'), CultureInfo.InvariantCulture);
}
