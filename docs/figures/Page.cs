using System.Runtime.CompilerServices;

namespace AdjointDpm.Figures;

/// <summary>A page of docs/ with places for tables, between <c>&lt;!-- table: name --&gt;</c> and <c>&lt;!-- end --&gt;</c>.</summary>
internal sealed class Page(string path)
{
    public static string Folder { get; } = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(Here())!, ".."));

    public static Page Of(string name) => new(Path.Combine(Folder, name));

    /// <summary>The table that the page has now.</summary>
    public Table Get(string name)
    {
        var text = Text();
        var (from, to) = Place(text, name);
        return Table.Parse(text[from..to]);
    }

    public void Put(string name, Table table)
    {
        var text = Text();
        var (from, to) = Place(text, name);
        File.WriteAllText(path, $"{text[..from]}{table.Markdown()}\n{text[to..]}");
    }

    private string Text() => File.ReadAllText(path).ReplaceLineEndings("\n");

    private (int From, int To) Place(string text, string name)
    {
        var marker = $"<!-- table: {name} -->\n";
        var from = text.IndexOf(marker, StringComparison.Ordinal) + marker.Length;
        var to = from < marker.Length ? -1 : text.IndexOf("<!-- end -->", from, StringComparison.Ordinal);
        return to < 0 ? throw new InvalidDataException($"{path} has no place for the table '{name}'. Put the lines '{marker.Trim()}' and '<!-- end -->' where it belongs.") : (from, to);
    }

    private static string Here([CallerFilePath] string path = "") => path;
}
