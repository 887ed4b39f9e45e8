using System.Text;
using System.Text.Json;
using AdjointDpm.Grains.Specs;
using Microsoft.VisualBasic.FileIO;

namespace AdjointDpm.Grains.Prompts;

/// <summary>Reads files of prompts in the forms that people have them in.</summary>
/// <remarks>
/// <list type="bullet">
/// <item><c>.txt</c>: one on a line; blank lines and those that begin with <c>#</c> are passed over. Options as sd-scripts has them: <c>prompt --n negative --w 512 --h 768 --d seed --l guidance --s steps --ss sampler</c>; <c>--g</c> and <c>--fs</c>, which are of other models, are passed over.</item>
/// <item><c>.csv</c>, <c>.tsv</c>, <c>.parquet</c>: a column prompt, text or caption. <c>.jsonl</c>, <c>.json</c>, <c>.yaml</c>: texts, or objects with such a key.</item>
/// <item><c>.toml</c>: sd-scripts' <c>[prompt]</c> with <c>[[prompt.subset]]</c>.</item>
/// <item>Other columns and keys that count: negative (negative_prompt), seed, width, height, steps (sample_steps), guidance (guidance_scale, cfg, cfg_scale, scale), sampler (sample_sampler), class (label). The rest is passed over: data sets have images and sources beside their captions.</item>
/// </list>
/// </remarks>
public static class PromptFile
{
    private const long MostBytes = 256L << 20;

    /// <summary>The extensions that are read, with their dots.</summary>
    public static IReadOnlyList<string> Extensions { get; } = [".txt", ".csv", ".tsv", ".jsonl", ".json", ".yaml", ".yml", ".toml", ".parquet"];

    /// <summary>Reads all prompts of a file, in its order.</summary>
    /// <param name="path">The file; its extension tells the form.</param>
    /// <exception cref="InvalidDataException">The file is missing, of no known form, malformed or holds no prompt; the message has the line.</exception>
    public static IReadOnlyList<Prompt> Read(string path)
    {
        if (!File.Exists(path))
            throw new InvalidDataException($"{path}: there is no such file.");
        if (new FileInfo(path).Length is > MostBytes and var bytes)
            throw new InvalidDataException($"{path}: has {bytes} bytes; a file of prompts has at most {MostBytes}. Take a part of it.");
        var extension = Path.GetExtension(path).ToLowerInvariant();
        try
        {
            var prompts = extension switch
            {
                ".txt" => Lines(path),
                ".csv" => Table(path, ","),
                ".tsv" => Table(path, "\t"),
                ".jsonl" => JsonLines(path),
                ".json" => Json(path),
                ".yaml" or ".yml" => Yaml(path),
                ".toml" => TomlPrompts.Read(path),
                ".parquet" => ParquetPrompts.Read(path),
                _ => throw new InvalidDataException($"{path}: files of prompts end in {string.Join(", ", Extensions)}, not in '{extension}'."),
            };
            return prompts.Count > 0 ? prompts : throw new InvalidDataException($"{path}: holds no prompt.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or DecoderFallbackException)
        {
            throw new InvalidDataException($"{path}: cannot be read: {(e is DecoderFallbackException ? "it is not UTF-8 text." : e.Message)}", e);
        }
    }

    private static StreamReader Open(string path) => new(path, new UTF8Encoding(false, throwOnInvalidBytes: true), detectEncodingFromByteOrderMarks: true);

    private static List<Prompt> Lines(string path)
    {
        var prompts = new List<Prompt>();
        using var reader = Open(path);
        for (var number = 1; reader.ReadLine() is { } line; number++)
        {
            if (!string.IsNullOrWhiteSpace(line) && !line.TrimStart().StartsWith('#'))
                prompts.Add(Options(line.Trim(), new(path, number)));
        }

        return prompts;
    }

    /// <summary>A line of sd-scripts: options behind the prompt, each after two dashes.</summary>
    private static Prompt Options(string line, PromptPlace place)
    {
        var parts = line.Split(" --");
        var row = new PromptRow(place);
        row.Add("prompt", parts[0]);
        foreach (var part in parts[1..])
        {
            var space = part.IndexOf(' ', StringComparison.Ordinal);
            var (name, value) = space < 0 ? (part, "") : (part[..space], part[(space + 1)..].Trim());
            row.Add(name switch
            {
                "n" => "negative", "w" => "width", "h" => "height", "d" => "seed", "s" => "steps", "l" => "guidance", "ss" => "sampler",
                // Guidance that a network is told, and the shift of flow matching: of models that are not drawn here.
                "g" or "fs" => "",
                _ => throw place.Wrong($"has an option '--{name}'. Known are --n negative, --w width, --h height, --d seed, --l guidance, --s steps and --ss sampler."),
            }, value);
        }

        return row.Prompt();
    }

    private static List<Prompt> Table(string path, string separator)
    {
        var prompts = new List<Prompt>();
        using var reader = Open(path);
        using var parser = new TextFieldParser(reader) { TextFieldType = FieldType.Delimited, HasFieldsEnclosedInQuotes = separator == ",", TrimWhiteSpace = true };
        parser.SetDelimiters(separator);
        try
        {
            if (parser.ReadFields() is not { } names)
                return prompts;
            PromptRow.RequirePrompt(names, new(path, 1));
            while (!parser.EndOfData)
            {
                var place = new PromptPlace(path, parser.LineNumber);
                if (parser.ReadFields() is not { } fields)
                    break;
                if (fields.Length != names.Length)
                    throw place.Wrong($"has {fields.Length} fields under {names.Length} columns. Put texts with separators into quotes.");
                var row = new PromptRow(place);
                foreach (var (name, field) in names.Zip(fields))
                    row.Add(name, field);
                prompts.Add(row.Prompt());
            }
        }
        catch (MalformedLineException e)
        {
            throw new PromptPlace(path, e.LineNumber).Wrong("is no row of a table: a quote is not closed or stands inside a text. Double it there.");
        }

        return prompts;
    }

    private static List<Prompt> JsonLines(string path)
    {
        var prompts = new List<Prompt>();
        using var reader = Open(path);
        for (var number = 1; reader.ReadLine() is { } line; number++)
        {
            if (string.IsNullOrWhiteSpace(line))
                continue;
            var place = new PromptPlace(path, number);
            using var json = Parse(line, place);
            prompts.Add(Of(json.RootElement, place));
        }

        return prompts;
    }

    private static List<Prompt> Json(string path)
    {
        using var json = Parse(File.ReadAllText(path), new(path, 1));
        var list = json.RootElement.ValueKind == JsonValueKind.Object && json.RootElement.TryGetProperty("prompts", out var named) ? named : json.RootElement;
        return list.ValueKind == JsonValueKind.Array
            ? [.. list.EnumerateArray().Select((item, i) => Of(item, new(path, i + 1, "item")))]
            : throw new InvalidDataException($"{path}: is no list of prompts, but {list.ValueKind}. Write [\"a cat\", …] or [{{\"prompt\": \"a cat\"}}, …].");
    }

    private static JsonDocument Parse(string text, PromptPlace place)
    {
        try
        {
            return JsonDocument.Parse(text);
        }
        catch (JsonException e)
        {
            throw place.Wrong($"is no JSON: {e.Message}");
        }
    }

    private static Prompt Of(JsonElement item, PromptPlace place)
    {
        var row = new PromptRow(place);
        if (item.ValueKind == JsonValueKind.String)
        {
            row.Add("prompt", item.GetString());
            return row.Prompt();
        }

        if (item.ValueKind != JsonValueKind.Object)
            throw place.Wrong($"is {item.ValueKind}, neither a text nor an object with a prompt.");
        PromptRow.RequirePrompt(item.EnumerateObject().Select(p => p.Name), place);
        foreach (var property in item.EnumerateObject().Where(p => p.Value.ValueKind is JsonValueKind.String or JsonValueKind.Number))
            row.Add(property.Name, property.Value.ToString());
        return row.Prompt();
    }

    private static List<Prompt> Yaml(string path)
    {
        var text = File.ReadAllText(path, new UTF8Encoding(false, throwOnInvalidBytes: true));
        if (string.IsNullOrWhiteSpace(text))
            return [];
        InvalidDataException? wrong = null;
        var tree = YamlTree.Load(text, (line, _, _, message) => wrong ??= new InvalidDataException($"{path}:{line}: {message}"));
        if (wrong is not null)
            throw wrong;
        if (tree is YamlMap { Entries: [var only] } && only.Key.Text == "prompts")
            tree = only.Value;
        if (tree is not YamlList list)
            throw new InvalidDataException($"{path}: is no list of prompts. Write each on a line of its own behind '- '.");
        return [.. list.Items.Select(item => Of(item, new(path, item.Line)))];
    }

    private static Prompt Of(YamlItem item, PromptPlace place)
    {
        var row = new PromptRow(place);
        switch (item)
        {
            case YamlScalar scalar:
                row.Add("prompt", scalar.Text);
                break;
            case YamlMap map:
                PromptRow.RequirePrompt(map.Entries.Select(e => e.Key.Text), place);
                foreach (var (key, value) in map.Entries.Where(e => e.Value is YamlScalar { IsNull: false }))
                    row.Add(key.Text, ((YamlScalar)value).Text);
                break;
            default:
                throw place.Wrong("is a list in a list. Write one text, or a mapping with a prompt.");
        }

        return row.Prompt();
    }
}
