using System.Globalization;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>Reads the sweep files of W&amp;B, Katib and Determined as the search part of an experiment.</summary>
public sealed class SweepImport
{
    private readonly string _file;
    private readonly IReadOnlyDictionary<string, string> _map;
    private readonly List<SpecProblem> _problems = [];
    private readonly List<string> _notes = [];

    private SweepImport(string file, IReadOnlyDictionary<string, string> map) => (_file, _map) = (file, map);

    /// <summary>Reads a sweep file.</summary>
    /// <param name="text">Its text.</param>
    /// <param name="file">Its name, for messages.</param>
    /// <param name="map">Names of its parameters and metrics to paths in the spec and names of metrics, where they cannot be guessed.</param>
    public static SweepImportResult Read(string text, string file, IReadOnlyDictionary<string, string> map)
    {
        var import = new SweepImport(file, map);
        JsonObject? search = null;
        var system = "";
        switch (YamlTree.Load(text, (line, column, length, message) => import._problems.Add(new SpecProblem(file, line, column, "", message) { Length = length })))
        {
            case YamlMap map1 when Find(map1, "kind") is YamlScalar { Text: "Experiment" } && Find(map1, "spec") is YamlMap spec && Find(spec, "objective") is not null && Find(spec, "model") is null:
                (system, search) = ("Katib", new KatibSweep(import).Read(spec));
                break;
            case YamlMap map2 when Find(map2, "searcher") is YamlMap:
                (system, search) = ("Determined", new DeterminedSweep(import).Read(map2));
                break;
            case YamlMap map3 when Find(map3, "method") is not null && Find(map3, "parameters") is YamlMap:
                (system, search) = ("W&B", new WandbSweep(import).Read(map3));
                break;
            case { } other:
                import.Problem(other, "This is no sweep file of W&B (method, metric, parameters), Katib (kind: Experiment with objective, algorithm, parameters) or Determined (searcher, hyperparameters).");
                break;
        }
        if (search is not null && search["parameters"] is not JsonObject { Count: > 0 })
            import._problems.Add(new SpecProblem(file, 1, 1, "parameters", "The sweep varies nothing: none of its parameters has more than one value."));
        return new SweepImportResult(import._problems.Count == 0 ? search : null, system, import._notes, import._problems);
    }

    internal static YamlItem? Find(YamlMap map, string key) => map.Entries.FirstOrDefault(entry => entry.Key.Text == key).Value;

    internal void Problem(YamlItem at, string message) => _problems.Add(new SpecProblem(_file, at.Line, at.Column, "", message) { Length = at.Length });

    internal void Note(string text) => _notes.Add(text);

    /// <summary>Notes keys that mean nothing here, such as the program to start.</summary>
    internal void LeftOut(YamlMap map, params ReadOnlySpan<string> known)
    {
        foreach (var (key, _) in map.Entries)
            if (!known.Contains(key.Text))
                Note($"'{key.Text}' on line {key.Line} was left out.");
    }

    internal string? Word(YamlMap map, string key) => Find(map, key) is { } item ? item is YamlScalar scalar ? scalar.Text : Mismatch(item, key, "a single value") : null;

    internal double? Number(YamlMap map, string key)
    {
        if (Find(map, key) is not { } item)
            return null;
        if (item is YamlScalar scalar && double.TryParse(scalar.Text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && double.IsFinite(number))
            return number;
        Mismatch(item, key, "a number");
        return null;
    }

    internal int? Whole(YamlMap map, string key)
    {
        if (Number(map, key) is not { } number)
            return null;
        if (number == Math.Floor(number) && Math.Abs(number) <= int.MaxValue)
            return (int)number;
        Mismatch(Find(map, key)!, key, "a whole number");
        return null;
    }

    internal List<string> Words(YamlItem item) => item is YamlList list
        ? [.. list.Items.Select(one => one is YamlScalar scalar ? scalar.Text : Mismatch(one, "a value", "a single value") ?? "")]
        : [Mismatch(item, "values", "a list") ?? ""];

    /// <summary>One of some words as ours.</summary>
    internal string Among(YamlItem at, string word, string what, params ReadOnlySpan<(string Theirs, string Ours)> words)
    {
        var theirs = new List<string>();
        foreach (var (known, ours) in words)
        {
            if (known == word)
                return ours;
            theirs.Add(known);
        }
        var near = Suggestion.Nearest(word, theirs);
        Problem(at, $"{what} '{word}' has no counterpart here.{(near is null ? "" : $" Did you mean '{near}'?")} Known: {string.Join(", ", theirs)}.");
        return words[0].Ours;
    }

    /// <summary>The path in the spec that a parameter's name stands for; null when that is not clear, which is then a problem.</summary>
    internal string? Path(YamlItem at, string name)
    {
        if (_map.TryGetValue(name, out var mapped))
            return mapped;
        var last = name[(name.LastIndexOf('.') + 1)..];
        var all = SpecPath.Searchable().ToList();
        if (all.Contains(name))
            return name;
        if (SweepNames.Paths.TryGetValue(Suggestion.Plain(last), out var known))
        {
            Note($"'{name}' became '{known}'.");
            return known;
        }
        var same = all.Where(path => Suggestion.Plain(path[(path.LastIndexOf('.') + 1)..]) == Suggestion.Plain(last)).ToList();
        if (same.Count == 1)
        {
            Note($"'{name}' became '{same[0]}'.");
            return same[0];
        }
        Problem(at, $"'{name}' has no counterpart here{(same.Count > 1 ? $" that is clear: {string.Join(", ", same.Take(4))}" : "")}. Say which path it stands for: --map {name}={(same.Count > 0 ? same[0] : "optimizer.learningRate")}");
        return null;
    }

    internal JsonObject Objective(YamlItem? at, string? metric, bool maximize, double? target)
    {
        var name = metric ?? "loss";
        if (_map.TryGetValue(name, out var mapped))
            (name, metric) = (mapped, null);
        else if (SweepNames.Metrics.TryGetValue(Suggestion.Plain(name), out var known))
            name = known;
        else
            Note($"The metric '{name}'{(at is null ? "" : $" on line {at.Line}")} is taken as it is. If trials record it under another name: --map {name}=heldOut.loss.after");
        if (metric is not null && name != metric)
            Note($"The metric '{metric}' became '{name}'.");
        var objective = new JsonObject { ["metric"] = name, ["goal"] = maximize ? "maximize" : "minimize" };
        if (target is not null)
            objective["target"] = target;
        return objective;
    }

    internal static JsonObject Interval(double min, double max, string distribution) => new() { ["distribution"] = distribution, ["min"] = min, ["max"] = max };

    internal static JsonObject Listed(IEnumerable<string> values) => new() { ["values"] = new JsonArray([.. values.Select(value => JsonValue.Create(value))]) };

    /// <summary>Equal steps from one end to the other, both included.</summary>
    internal static IEnumerable<string> Spread(double min, double max, int count, bool whole, bool log = false) =>
        Enumerable.Range(0, count).Select(i => count == 1 ? min : log ? min * Math.Pow(max / min, i / (count - 1.0)) : min + i * (max - min) / (count - 1))
            .Select(value => (whole ? Math.Round(value) : double.Parse(value.ToString("G10", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture)).ToString("R", CultureInfo.InvariantCulture)).Distinct();

    private string? Mismatch(YamlItem at, string key, string expected)
    {
        Problem(at, $"{key} must be {expected}.");
        return null;
    }
}

/// <summary>A sweep file as the search part of an experiment.</summary>
/// <param name="Search">Keys of the spec: objective, algorithm, parameters, …; null when there were problems.</param>
/// <param name="System">Whose file it is.</param>
/// <param name="Notes">What was guessed, and what was left out.</param>
/// <param name="Problems">What cannot be read, with its place.</param>
public sealed record SweepImportResult(JsonObject? Search, string System, IReadOnlyList<string> Notes, IReadOnlyList<SpecProblem> Problems);

/// <summary>Names that other programs' users give to what has a fixed place here.</summary>
internal static class SweepNames
{
    /// <summary>Names without separators, in lower case, to paths.</summary>
    public static IReadOnlyDictionary<string, string> Paths { get; } = new Dictionary<string, string>
    {
        ["lr"] = "optimizer.learningRate", ["learningrate"] = "optimizer.learningRate", ["baselr"] = "optimizer.learningRate", ["stepsize"] = "optimizer.learningRate",
        ["optimizer"] = "optimizer.name", ["opt"] = "optimizer.name", ["wd"] = "optimizer.weightDecay", ["weightdecay"] = "optimizer.weightDecay", ["eps"] = "optimizer.epsilon",
        ["clip"] = "optimizer.maxNorm", ["gradclip"] = "optimizer.maxNorm", ["maxgradnorm"] = "optimizer.maxNorm",
        ["batchsize"] = "training.samplesPerShard", ["numsteps"] = "training.steps", ["maxsteps"] = "training.steps", ["epochs"] = "training.steps", ["numepochs"] = "training.steps", ["seed"] = "training.seed",
        ["numinferencesteps"] = "sample.steps", ["samplingsteps"] = "sample.steps", ["sampler"] = "sample.solver", ["solver"] = "sample.solver", ["guidancescale"] = "sample.guidance", ["cfg"] = "sample.guidance", ["cfgscale"] = "sample.guidance",
        ["lorarank"] = "train.rank", ["r"] = "train.rank", ["loraalpha"] = "train.alpha",
    };

    /// <summary>The same for metrics.</summary>
    public static IReadOnlyDictionary<string, string> Metrics { get; } = new Dictionary<string, string>
    {
        ["loss"] = "loss", ["trainloss"] = "loss", ["trainingloss"] = "loss",
        ["valloss"] = "heldOut.loss.after", ["validationloss"] = "heldOut.loss.after", ["evalloss"] = "heldOut.loss.after", ["testloss"] = "heldOut.loss.after",
        ["accuracy"] = "heldOut.accuracy.after", ["valaccuracy"] = "heldOut.accuracy.after", ["validationaccuracy"] = "heldOut.accuracy.after", ["valacc"] = "heldOut.accuracy.after", ["evalaccuracy"] = "heldOut.accuracy.after",
    };
}
