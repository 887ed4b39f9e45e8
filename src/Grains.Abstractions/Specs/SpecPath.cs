using System.Globalization;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>Places in a spec: <c>optimizer.learningRate</c>, <c>losses[0].weight</c>, <c>parameters["optimizer.learningRate"].min</c>.</summary>
internal static class SpecPath
{
    private static readonly ObjectShape Root = SpecShape.Of<ExperimentSpec>();

    /// <summary>Parts that steer the search or the judgement: a trial must not change them.</summary>
    private static readonly string[] Fixed = ["parameters", "algorithm", "objective", "objectives", "earlyStopping", "budget", "maxTrials", "maxConcurrentTrials", "heldOut", "failure", "checkpoint", "resources", "sample.promptsFile"];

    public static string Join(string path, string name) => path.Length == 0 ? name : $"{path}.{name}";

    public static string Item(string path, int index) => string.Create(CultureInfo.InvariantCulture, $"{path}[{index}]");

    public static string Entry(string path, string key) => $"{path}[\"{key}\"]";

    public static string Parent(string path)
    {
        if (path.EndsWith("\"]", StringComparison.Ordinal)) return path[..path.LastIndexOf("[\"", StringComparison.Ordinal)];
        var cut = Math.Max(path.LastIndexOf('.'), path.LastIndexOf('['));
        return cut < 0 ? "" : path[..cut];
    }

    /// <summary>Where else in the document a key of this name lives, when it does in one place only.</summary>
    public static string? Elsewhere(string name, string path)
    {
        var found = Places(Root, "").Where(place => Suggestion.Plain(place[(place.LastIndexOf('.') + 1)..]) == Suggestion.Plain(name)).Take(2).ToList();
        return found.Count != 1 ? null : path.StartsWith("spec", StringComparison.Ordinal) ? found[0] : "spec." + found[0];
    }

    /// <summary>Paths that a search may vary.</summary>
    public static IEnumerable<string> Searchable() => Leaves(Root, "").Where(leaf => !IsFixed(leaf));

    /// <summary>What stands at a searched path, or why nothing may.</summary>
    public static SpecShape? Resolve(string path, JsonObject spec, out SpecFinding? finding, bool searched = true)
    {
        finding = null;
        SpecShape shape = Root;
        JsonNode? node = spec;
        var walked = "";
        foreach (var segment in Split(path, spec))
        {
            if (shape is MapShape map)
            {
                if (segment.Index is not null || node is not JsonObject entries || !entries.ContainsKey(segment.Name))
                {
                    var near = Suggestion.Nearest(segment.Name, (node as JsonObject)?.Select(entry => entry.Key) ?? []);
                    finding = new SpecFinding(path, $"'{path}' cannot be set because {walked} has no '{segment.Name}'.{(near is null ? "" : $" Did you mean '{near}'?")}") { Found = path, Suggestion = near };
                    return null;
                }
                (shape, node, walked) = (map.Value, entries[segment.Name], Entry(walked, segment.Name));
                continue;
            }

            if (segment.Index is { } index)
            {
                if (shape is not ListShape list || node is not JsonArray array) return Unknown(path, out finding);
                if (index >= array.Count)
                {
                    finding = new SpecFinding(path, string.Create(CultureInfo.InvariantCulture, $"'{path}' speaks of item {index} of {walked}, but there are {array.Count}, counted from 0.")) { Found = path };
                    return null;
                }

                (shape, node, walked) = (list.Element, array[index], Item(walked, index));
                continue;
            }

            if (shape is not ObjectShape type || type.Find(segment.Name) is not { } member) return Unknown(path, out finding);
            (shape, walked) = (member.Shape, Join(walked, member.Name));
            node = node?[member.Name];
            // A person who sets a part of something that is optional wants it to be there.
            if (!searched && node is null && shape is ObjectShape { Members: var members } && members.All(part => !part.Required)) continue;
            if (shape is not ScalarShape && node is null && member.Nullable && shape is not ListShape)
            {
                finding = new SpecFinding(path, $"'{path}' cannot be set because the spec has no {walked}.") { Found = path };
                return null;
            }
        }

        if (searched && IsFixed(path))
        {
            finding = new SpecFinding(path, $"'{path}' cannot be searched: it steers the search or judges its trials.") { Found = path };
            return null;
        }

        if (shape is ScalarShape or ListShape { Element: ScalarShape }) return shape;
        finding = new SpecFinding(path, $"'{path}' is not a single value. Name one of its parts: {string.Join(", ", ((shape as ListShape)?.Element as ObjectShape ?? shape as ObjectShape)?.Members.Select(member => member.Name) ?? [])}.") { Found = path };
        return null;
    }

    /// <summary>Reads a value, given as text, for a resolved place: a JSON value, or what was wrong.</summary>
    public static JsonNode? Read(SpecShape shape, string path, string text, out SpecFinding? finding)
    {
        finding = null;
        if (shape is ScalarShape scalar)
        {
            var reading = ScalarReading.Read(scalar, text, quoted: false);
            finding = reading.Value is null ? reading.Finding(path, shape) : null;
            return reading.Value;
        }

        var list = (ListShape)shape;
        if (TryParse(text) is not JsonArray array || array.Count < Math.Max(1, list.MinLength))
        {
            finding = new SpecFinding(path, $"{path} must be {list.Expected}, written as a JSON array, but is {ScalarReading.Quote(text)}.") { Found = text, Expected = list.Expected };
            return null;
        }

        var result = new JsonArray();
        foreach (var item in array)
        {
            if (item is JsonValue && Read(list.Element, path, item.ToString(), out finding) is { } node) result.Add(node);
            else
            {
                finding ??= new SpecFinding(path, $"{path} must be {list.Expected}, but is {ScalarReading.Quote(text)}.") { Found = text, Expected = list.Expected };
                return null;
            }
        }

        return result;
    }

    /// <summary>Puts a value at a resolved place.</summary>
    public static void Set(JsonObject spec, string path, JsonNode value)
    {
        var segments = Split(path, spec).ToList();
        JsonNode node = spec;
        foreach (var segment in segments.SkipLast(1)) node = segment.Index is { } index ? node[index]! : node[segment.Name] ??= new JsonObject();
        if (segments[^1].Index is { } last) node[last] = value;
        else node[segments[^1].Name] = value;
    }

    private static SpecShape? Unknown(string path, out SpecFinding? finding)
    {
        var near = Suggestion.Nearest(path, Searchable());
        if (near is null)
        {
            var name = Suggestion.Plain(path[(path.LastIndexOf('.') + 1)..]);
            var same = Searchable().Where(leaf => Suggestion.Plain(leaf[(leaf.LastIndexOf('.') + 1)..]) == name).ToList();
            near = same.Count == 1 ? same[0] : null;
        }

        finding = new SpecFinding(path, $"'{path}' is no place in the spec." + (near is null ? " Write it like 'optimizer.learningRate' or 'losses[0].weight'." : $" Did you mean '{near}'?")) { Found = path, Suggestion = near };
        return null;
    }

    private static bool IsFixed(string path) =>
        Fixed.Any(root => path == root || path.StartsWith(root + ".", StringComparison.Ordinal) || path.StartsWith(root + "[", StringComparison.Ordinal));

    private static IEnumerable<string> Leaves(SpecShape shape, string path) => shape switch
    {
        ObjectShape type => type.Members.SelectMany(member => Leaves(member.Shape, Join(path, member.Name))),
        ListShape { Element: ObjectShape element } => Leaves(element, Item(path, 0)),
        MapShape => [],
        _ => [path],
    };

    private static IEnumerable<string> Places(SpecShape shape, string path) => shape is ObjectShape type
        ? type.Members.SelectMany(member => Places(member.Shape, Join(path, member.Name)).Prepend(Join(path, member.Name))).Distinct()
        : Leaves(shape, path);

    private static JsonNode? TryParse(string text)
    {
        try
        {
            return JsonNode.Parse(text);
        }
        catch (System.Text.Json.JsonException)
        {
            return null;
        }
    }

    /// <summary>The parts of a path. Keys of parameters have dots themselves: there the longest that the spec has counts, with or without brackets and quotes.</summary>
    private static IEnumerable<(string Name, int? Index)> Split(string path, JsonObject spec)
    {
        const string Parameters = "parameters";
        if (!path.StartsWith(Parameters + ".", StringComparison.Ordinal) && !path.StartsWith(Parameters + "[", StringComparison.Ordinal)) return Split(path);
        var rest = path[Parameters.Length..];
        string key;
        if (rest[0] == '[')
        {
            var end = rest.IndexOf(']', StringComparison.Ordinal);
            if (end < 0) return Split(path);
            (key, rest) = (rest[1..end].Trim('"', '\''), rest[(end + 1)..]);
        }
        else
        {
            var known = (spec[Parameters] as JsonObject)?.Select(entry => entry.Key).Where(name => rest[1..] == name || rest[1..].StartsWith(name + ".", StringComparison.Ordinal)).MaxBy(name => name.Length);
            var cut = rest.LastIndexOf('.');
            key = known ?? (cut > 0 ? rest[1..cut] : rest[1..]);
            rest = rest[(key.Length + 1)..];
        }

        return [(Parameters, null), (key, null), .. rest.Length > 1 ? Split(rest[1..]) : []];
    }

    private static IEnumerable<(string Name, int? Index)> Split(string path)
    {
        foreach (var part in path.Split('.'))
        {
            var bracket = part.IndexOf('[');
            if (bracket < 0 || !part.EndsWith(']'))
            {
                yield return (part, null);
                continue;
            }

            yield return (part[..bracket], null);
            foreach (var index in part[(bracket + 1)..^1].Split("]["))
                yield return int.TryParse(index, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? ("", number) : ("[" + index, null);
        }
    }
}
