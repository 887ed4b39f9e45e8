using System.Globalization;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>Turns YAML into the JSON of a shape, and notes every place where the two disagree.</summary>
/// <param name="file">Name of the file, for what is said of it.</param>
/// <param name="folder">Folder that relative paths start from.</param>
/// <param name="ofSilos">Whether paths are those of silos on other machines: then they must be absolute, and are not looked for here.</param>
internal sealed class YamlBinder(string file, string folder, bool ofSilos = false)
{
    private readonly Dictionary<string, YamlItem> _values = [];
    private readonly Dictionary<string, YamlScalar> _keys = [];
    private readonly List<string> _spoiled = [];

    public List<SpecProblem> Problems { get; } = [];

    public JsonNode Bind(ObjectShape shape, YamlItem item) => Node(shape, item, "", "") ?? shape.Placeholder();

    /// <summary>Reports what a rule found, at the place in the file that it speaks of; nothing when that place did not bind.</summary>
    public void Report(SpecFinding finding, string prefix)
    {
        var path = prefix + finding.Path;
        if (InDoubt(path) || (finding.About is not null && InDoubt(prefix + finding.About))) return;
        var place = finding.AtKey && _keys.TryGetValue(path, out var key) ? key : Nearest(path);
        Problems.Add(finding.At(file, place?.Line ?? 1, place?.Column ?? 1, place?.Length ?? 1, prefix));
    }

    public void Report(int line, int column, int length, string path, string message) =>
        Problems.Add(new SpecProblem(file, line, column, path, message) { Length = length });

    private bool InDoubt(string path) => _spoiled.Any(spoiled =>
        path == spoiled || path.StartsWith(spoiled + ".", StringComparison.Ordinal) || path.StartsWith(spoiled + "[", StringComparison.Ordinal));

    private YamlItem? Nearest(string path)
    {
        while (!_values.ContainsKey(path) && path.Length > 0) path = SpecPath.Parent(path);
        return _values.GetValueOrDefault(path);
    }

    /// <summary>Null: nothing usable stands there, and the problem is noted.</summary>
    private JsonNode? Node(SpecShape shape, YamlItem item, string path, string parent)
    {
        _values[path] = item;
        return (shape, item) switch
        {
            (ObjectShape type, YamlMap map) => Object(type, map, path),
            (MapShape type, YamlMap map) => Map(type, map, path),
            (ListShape type, YamlList list) => List(type, list, path),
            (ScalarShape { NestedAsText: true }, YamlList list) when list.Items.All(i => i is YamlScalar) => Text(list),
            (ScalarShape type, YamlScalar { IsNull: false } scalar) => Scalar(type, scalar, path, parent),
            _ => Mismatch(shape, item, path, parent),
        };
    }

    private JsonObject Object(ObjectShape shape, YamlMap map, string path)
    {
        var result = new JsonObject();
        var meant = new HashSet<string?>();
        foreach (var (key, value) in map.Entries)
        {
            var memberPath = SpecPath.Join(path, key.Text);
            if (shape.Find(key.Text) is not { } member)
            {
                meant.Add(Unknown(shape, key, path));
                continue;
            }

            _keys[memberPath] = key;
            if (member.Nullable && value is YamlScalar { IsNull: true }) continue;
            if (Node(member.Shape, value, memberPath, path) is { } node) result[member.Name] = node;
        }

        foreach (var member in shape.Members.Where(member => member.Required && !result.ContainsKey(member.Name)))
        {
            var memberPath = SpecPath.Join(path, member.Name);
            if (!_keys.ContainsKey(memberPath) && !meant.Contains(member.Name))
                Add(map, new SpecFinding(memberPath, $"{Words(memberPath)} is missing. It must be {member.Shape.Expected}.") { Found = "nothing", Expected = member.Shape.Expected });
            Spoil(path, memberPath);
            result[member.Name] = member.Shape.Placeholder();
        }

        return result;
    }

    private JsonObject Map(MapShape shape, YamlMap map, string path)
    {
        var result = new JsonObject();
        foreach (var (key, value) in map.Entries)
        {
            var valuePath = SpecPath.Entry(path, key.Text);
            _keys[valuePath] = key;
            if (Node(shape.Value, value, valuePath, path) is { } node) result[key.Text] = node;
        }

        return result;
    }

    private JsonArray List(ListShape shape, YamlList list, string path)
    {
        var result = new JsonArray();
        for (var i = 0; i < list.Items.Count; i++)
        {
            var element = Node(shape.Element, list.Items[i], SpecPath.Item(path, i), path);
            result.Add(element ?? shape.Element.Placeholder());
        }

        if (list.Items.Count < shape.MinLength)
        {
            Add(list, new SpecFinding(path, $"{Words(path)} must have at least {(shape.MinLength == 1 ? "one item" : $"{shape.MinLength} items")}, but is an empty list.") { Found = "an empty list", Expected = shape.Expected });
            Spoil(SpecPath.Parent(path), path);
        }

        return result;
    }

    private static JsonValue Text(YamlList list)
    {
        var array = new JsonArray([.. list.Items.Cast<YamlScalar>().Select(item => NestedItem(item))]);
        return JsonValue.Create(array.ToJsonString(ExperimentSpecJson.Options));
    }

    private static JsonValue NestedItem(YamlScalar item) =>
        !item.Quoted && int.TryParse(item.Text, CultureInfo.InvariantCulture, out var whole) ? JsonValue.Create(whole) : JsonValue.Create(item.Text);

    private JsonNode? Scalar(ScalarShape shape, YamlScalar scalar, string path, string parent)
    {
        var reading = ScalarReading.Read(shape, scalar.Text, scalar.Quoted);
        if (reading.Value is null)
        {
            Add(scalar, reading.Finding(path, shape, Words(path)));
            Spoil(parent, path);
            return null;
        }

        if (shape.Path is not { } kind) return reading.Value;
        var absolute = scalar.Text;
        var away = ofSilos && path != "spec." + PromptsOfFile.Place;
        if ((away ? ExistingPath.OfSilo(Words(path), scalar.Text) : ExistingPath.Find(kind, Words(path), scalar.Text, folder, out absolute)) is not { } finding) return JsonValue.Create(absolute);
        Add(scalar, finding with { Path = path });
        Spoil("", path);
        return JsonValue.Create(absolute);
    }

    private JsonNode? Mismatch(SpecShape shape, YamlItem item, string path, string parent)
    {
        var found = item switch { YamlMap => "a mapping", YamlList => "a list", YamlScalar { IsNull: true } => "empty", YamlScalar s => ScalarReading.Quote(s.Text), _ => "something else" };
        var name = path.Length == 0 ? "The document" : Words(path);
        var advice = shape is ListShape { Element: ScalarShape } && item is YamlScalar { IsNull: false } single ? $" Write [{single.Text}]." : "";
        Add(item, new SpecFinding(path, $"{name} must be {shape.Expected}, but is {found}.{advice}") { Found = found, Expected = shape.Expected });
        Spoil(parent, path);
        return null;
    }

    /// <summary>The key that was meant here, when that is clear.</summary>
    private string? Unknown(ObjectShape shape, YamlScalar key, string path)
    {
        var full = SpecPath.Join(path, key.Text);
        var names = shape.Members.Select(member => member.Name).ToList();
        var near = Suggestion.Nearest(key.Text, names);
        var elsewhere = near is null ? SpecPath.Elsewhere(key.Text, path) : null;
        var advice = near is not null ? $"Did you mean '{near}'?"
            : elsewhere is not null ? $"Did you mean '{elsewhere}'?"
            : $"Known keys here: {string.Join(", ", names)}.";
        Add(key, new SpecFinding(full, $"{Words(full)} is not a known key. {advice}")
        {
            Found = key.Text, Expected = string.Join(", ", names), Suggestion = near ?? elsewhere,
        });
        return near;
    }

    /// <summary>Paths as people and <c>parameters</c> write them: from the spec on.</summary>
    private static string Words(string path) => path.StartsWith("spec.", StringComparison.Ordinal) ? path["spec.".Length..] : path;

    private void Add(YamlItem item, SpecFinding finding) => Problems.Add(finding.At(file, item.Line, item.Column, item.Length));

    /// <summary>Rules must not draw conclusions from an object of which a part did not bind; at the root only that part is in doubt.</summary>
    private void Spoil(string parent, string path) => _spoiled.Add(parent is "" or "spec" ? path : parent);
}
