using System.Globalization;
using System.Numerics;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>Rules of the search: every searched path exists, and every value it may take binds there.</summary>
internal static class SearchRules
{
    /// <summary>Directions that the sequence is tabulated for.</summary>
    internal const int MostSobolParameters = 21;

    private const int MostTrials = 100_000;

    /// <param name="spec">The spec.</param>
    /// <param name="node">Its JSON; listed values are rewritten in canonical form, so that 1e-4 and 0.0001 hash alike.</param>
    /// <param name="folder">Folder that relative paths start from; null when all must be absolute already and are not looked for.</param>
    public static List<SpecFinding> Check(ExperimentSpec spec, JsonObject node, string? folder)
    {
        var findings = new List<SpecFinding>();
        foreach (var (path, parameter) in spec.Parameters) Parameter(spec, node, folder, path, parameter, findings);
        Size(spec, findings);
        return findings;
    }

    private static void Parameter(ExperimentSpec spec, JsonObject node, string? folder, string path, ParameterSpec parameter, List<SpecFinding> findings)
    {
        var place = SpecPath.Entry("parameters", path);
        if (SpecPath.Resolve(path, node, out var finding) is not { } shape)
        {
            findings.Add(finding! with { Path = place, AtKey = true, About = path });
            return;
        }

        if (parameter.Values is not null)
        {
            if (parameter.Min is not null || parameter.Max is not null)
                findings.Add(new(place, $"{place} has both 'values' and an interval. Keep one of them.") { AtKey = true });
            if (spec.Algorithm.Name == AlgorithmName.CmaEs)
                findings.Add(new(place, $"{place} lists values, but cma-es searches intervals. Write 'min' and 'max', or set algorithm.name to tpe.") { AtKey = true });
            Values(node, folder, path, shape, parameter.Values, findings);
        }
        else if (parameter is { Min: { } min, Max: { } max })
        {
            if (spec.Algorithm.Name == AlgorithmName.Grid)
                findings.Add(new(place, $"{place} is an interval, but a grid needs 'values'. List them, or set algorithm.name to random, sobol, tpe, gp or cma-es.") { AtKey = true });
            Interval(place, path, shape, parameter.Distribution, min, max, findings);
        }
        else
        {
            findings.Add(new(place, $"{place} needs either 'values' or both 'min' and 'max'.") { AtKey = true });
        }
    }

    private static void Values(JsonObject node, string? folder, string path, SpecShape shape, IReadOnlyList<string> values, List<SpecFinding> findings)
    {
        var place = SpecPath.Entry("parameters", path) + ".values";
        var seen = new HashSet<string>();
        for (var i = 0; i < values.Count; i++)
        {
            var item = SpecPath.Item(place, i);
            if (SpecPath.Read(shape, path, values[i], out var finding) is not { } value)
            {
                findings.Add(finding! with { Path = item, Message = finding.Message.Replace($"{path} must be", $"A value of '{path}' must be", StringComparison.Ordinal) });
                continue;
            }

            var text = value is JsonValue scalar && scalar.TryGetValue<string>(out var word) ? word : value.ToJsonString(ExperimentSpecJson.Options);
            if (shape is ScalarShape { Path: { } kind } && Located(kind, item, folder, ref text) is { } missing)
            {
                findings.Add(missing);
                continue;
            }

            if (!seen.Add(text)) findings.Add(new(item, $"{item} repeats the value {ScalarReading.Quote(values[i])}. Remove it.") { Found = values[i] });
            node["parameters"]![path]!["values"]![i] = text;
        }
    }

    private static SpecFinding? Located(ExistingPathKind kind, string place, string? folder, ref string text)
    {
        if (folder is not null)
        {
            var finding = ExistingPath.Find(kind, place, text, folder, out var absolute);
            text = absolute;
            return finding;
        }

        return Path.IsPathFullyQualified(text) ? null : new(place, $"{place} must be an absolute path, but is '{text}'.") { Found = text };
    }

    private static void Interval(string place, string path, SpecShape shape, Distribution distribution, double min, double max, List<SpecFinding> findings)
    {
        if (shape is not ScalarShape scalar || (scalar.Type != typeof(int) && scalar.Type != typeof(double)))
        {
            findings.Add(new(place, $"'{path}' is {shape.Expected}, so it has no interval. List 'values'.") { AtKey = true });
            return;
        }

        if (min >= max)
            findings.Add(new($"{place}.max", $"{place}.max must be greater than min = {Text(min)}, but is {Text(max)}.") { Found = Text(max), Expected = $"a number greater than {Text(min)}" });
        if (distribution == Distribution.LogUniform && min <= 0)
            findings.Add(new($"{place}.min", $"{place}.min must be greater than 0 for logUniform, but is {Text(min)}.") { Found = Text(min), Expected = "a number greater than 0" });
        if (scalar.Type == typeof(int) && distribution != Distribution.IntUniform)
            findings.Add(new(place, $"'{path}' is a whole number. Set distribution to intUniform, or list 'values'.") { AtKey = true, Suggestion = "intUniform" });
        if (distribution == Distribution.IntUniform && (min != Math.Floor(min) || max != Math.Floor(max)))
            findings.Add(new(place, $"{place} is intUniform, so 'min' and 'max' must be whole numbers, but they are {Text(min)} and {Text(max)}.") { AtKey = true });
        if (!scalar.InRange(min))
            findings.Add(new($"{place}.min", $"{place}.min is {Text(min)}, but '{path}' must be {scalar.Expected}.") { Found = Text(min), Expected = scalar.Expected });
        if (!scalar.InRange(max))
            findings.Add(new($"{place}.max", $"{place}.max is {Text(max)}, but '{path}' must be {scalar.Expected}.") { Found = Text(max), Expected = scalar.Expected });
    }

    private static void Size(ExperimentSpec spec, List<SpecFinding> findings)
    {
        if (spec.Algorithm.Name != AlgorithmName.Grid)
        {
            var name = ExperimentSpecJson.NameOf(spec.Algorithm.Name);
            if (spec.Parameters.Count == 0) findings.Add(new("algorithm.name", $"A {name} search needs 'parameters'. Add them, or set algorithm.name to grid for a single trial."));
            else if (spec.MaxTrials is null) findings.Add(new("algorithm.name", $"A {name} search needs 'maxTrials': it would never end."));
            if (spec.Algorithm.Name == AlgorithmName.Sobol && spec.Parameters.Count > MostSobolParameters)
                findings.Add(new("parameters", $"There are {spec.Parameters.Count} parameters, but a sobol search has at most {MostSobolParameters}. Set algorithm.name to random or tpe."));
            return;
        }

        var points = spec.Parameters.Values.Aggregate(BigInteger.One, (product, parameter) => product * Math.Max(1, parameter.Values?.Count ?? 1));
        var count = points == 1 ? "1 point" : string.Create(CultureInfo.InvariantCulture, $"{points} points");
        if (spec.MaxTrials is null && points > MostTrials)
            findings.Add(new("parameters", $"The grid has {count}, more than the {MostTrials} trials an experiment may have. Set maxTrials, or list fewer values."));
        if (spec.MaxTrials > points)
            findings.Add(new("maxTrials", $"maxTrials is {spec.MaxTrials}, but the grid has {count}, so there will be {points} trial{(points == 1 ? "" : "s")}.") { Severity = SpecSeverity.Note });
    }

    private static string Text(double value) => value.ToString(CultureInfo.InvariantCulture).ToLowerInvariant();
}
