using System.Globalization;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace AdjointDpm.Grains.Specs;

/// <summary>A piece of a YAML document that knows its place.</summary>
internal abstract record YamlItem(int Line, int Column, int Length);

internal sealed record YamlScalar(int Line, int Column, int Length, string Text, bool Quoted) : YamlItem(Line, Column, Length)
{
    public bool IsNull => !Quoted && Text is "" or "~" or "null" or "Null" or "NULL";
}

internal sealed record YamlList(int Line, int Column, int Length, IReadOnlyList<YamlItem> Items) : YamlItem(Line, Column, Length);

internal sealed record YamlMap(int Line, int Column, int Length, IReadOnlyList<KeyValuePair<YamlScalar, YamlItem>> Entries) : YamlItem(Line, Column, Length);

/// <summary>Reads one YAML document from parser events. YamlDotNet's own tree stops at the first duplicate key; this one reports them all.</summary>
internal sealed class YamlTree
{
    private const int MaxDepth = 32;

    private readonly Parser _parser;
    private readonly Action<int, int, int, string> _report;
    private readonly Dictionary<string, YamlItem> _anchors = [];

    private YamlTree(Parser parser, Action<int, int, int, string> report) => (_parser, _report) = (parser, report);

    /// <summary>The document, or null when the text is no YAML. Reports line, column, length and message.</summary>
    public static YamlItem? Load(string text, Action<int, int, int, string> report)
    {
        try
        {
            return new YamlTree(new Parser(new StringReader(text)), report).Document();
        }
        catch (YamlException e) when (e.Message.Contains("tab", StringComparison.Ordinal) && IndentingTab(text) is ({ } line, { } column))
        {
            report(line, column, 1, "A line is indented with a tab. YAML wants spaces.");
        }
        catch (YamlException e)
        {
            report(Number(e.Start.Line), Number(e.Start.Column), 1, $"This is not valid YAML: {Sentence(e.Message)}");
        }
        catch (TooDeepException e)
        {
            report(e.Line, e.Column, 1, $"Lists and mappings are nested more than {MaxDepth} deep. No experiment needs that.");
        }
        catch (Exception e) when (e is ArgumentException or FormatException or OverflowException or IndexOutOfRangeException or InvalidOperationException)
        {
            // The parser's own slips on malformed escapes and the like: they carry no place.
            report(1, 1, 1, $"This is not valid YAML: {Sentence(e.Message)}");
        }

        return null;
    }

    private YamlItem? Document()
    {
        _parser.Consume<StreamStart>();
        if (_parser.Accept<StreamEnd>(out _))
        {
            _report(1, 1, 1, "The file is empty. An experiment begins with 'apiVersion: adjointdpm.dev/v1'.");
            return null;
        }

        _parser.Consume<DocumentStart>();
        var root = Item(0);
        _parser.Consume<DocumentEnd>();
        if (_parser.Accept<DocumentStart>(out var second))
        {
            _report(Number(second.Start.Line), Number(second.Start.Column), 3, "A file holds one experiment, but a second document begins here. Put it in a file of its own.");
        }

        return root;
    }

    private YamlItem Item(int depth)
    {
        var current = _parser.Current!;
        var (line, column) = (Number(current.Start.Line), Number(current.Start.Column));
        if (depth > MaxDepth) throw new TooDeepException(line, column);
        if (_parser.TryConsume<AnchorAlias>(out var alias))
        {
            if (_anchors.TryGetValue(alias.Value.Value, out var target)) return target with { Line = line, Column = column };
            _report(line, column, 1 + alias.Value.Value.Length, $"The alias '*{alias.Value.Value}' has no anchor '&{alias.Value.Value}' before it.");
            return new YamlScalar(line, column, 1, "", false);
        }

        // A malformed flow mapping can end where its value should begin, and the parser lets that pass.
        if (current is not NodeEvent node) throw new YamlException(current.Start, current.End, "A value is missing");
        if (!node.Tag.IsEmpty) _report(line, column, 1, $"The tag '{node.Tag.Value}' is not needed. Write the value alone.");
        YamlItem item = current switch
        {
            Scalar scalar => ScalarAt(scalar, line, column),
            SequenceStart => ListAt(line, column, depth),
            _ => MapAt(line, column, depth),
        };
        if (!node.Anchor.IsEmpty) _anchors[node.Anchor.Value] = item;
        return item;
    }

    private YamlScalar ScalarAt(Scalar scalar, int line, int column)
    {
        _parser.MoveNext();
        var length = scalar.End.Line == scalar.Start.Line ? Number(scalar.End.Column) - column : 1;
        return new YamlScalar(line, column, Math.Max(1, length), scalar.Value, scalar.Style != ScalarStyle.Plain);
    }

    private YamlList ListAt(int line, int column, int depth)
    {
        _parser.Consume<SequenceStart>();
        var items = new List<YamlItem>();
        while (!_parser.TryConsume<SequenceEnd>(out _)) items.Add(Item(depth + 1));
        return new YamlList(line, column, 1, items);
    }

    private YamlMap MapAt(int line, int column, int depth)
    {
        _parser.Consume<MappingStart>();
        var entries = new List<KeyValuePair<YamlScalar, YamlItem>>();
        var seen = new Dictionary<string, int>();
        while (!_parser.TryConsume<MappingEnd>(out _))
        {
            var key = Item(depth + 1);
            var value = Item(depth + 1);
            if (key is not YamlScalar name)
            {
                _report(key.Line, key.Column, key.Length, "A key must be a single word, but this is a list or a mapping.");
            }
            else if (!seen.TryAdd(name.Text, name.Line))
            {
                _report(name.Line, name.Column, name.Length, $"The key '{name.Text}' is here twice, first on line {seen[name.Text].ToString(CultureInfo.InvariantCulture)}. Remove one.");
            }
            else
            {
                entries.Add(new(name, value));
            }
        }

        return new YamlMap(line, column, 1, entries);
    }

    private static (int? Line, int? Column) IndentingTab(string text)
    {
        var lines = text.Split('\n');
        for (var i = 0; i < lines.Length; i++)
        {
            var indent = lines[i].Length - lines[i].TrimStart(' ').Length;
            if (indent < lines[i].Length && lines[i][indent] == '\t') return (i + 1, indent + 1);
        }

        return (null, null);
    }

    private static int Number(long mark) => (int)Math.Clamp(mark, 1, int.MaxValue);

    private static string Sentence(string message)
    {
        var line = message.ReplaceLineEndings(" ").Trim();
        return line.EndsWith('.') ? line : line + ".";
    }

    private sealed class TooDeepException(int line, int column) : Exception
    {
        public int Line { get; } = line;

        public int Column { get; } = column;
    }
}
