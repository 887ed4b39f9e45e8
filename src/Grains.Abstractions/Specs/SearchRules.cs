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
        var whole = findings.Count == 0;
        foreach (var (path, parameter) in spec.Parameters) When(spec, node, path, parameter, findings);
        Algorithm(spec, findings);
        Stopping(spec, findings);
        Size(spec, whole && findings.Count == 0, findings);
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
            if (spec.Algorithm.Name is AlgorithmName.CmaEs)
                findings.Add(new(place, $"{place} lists values, but cma-es searches intervals. Write 'min' and 'max', or set algorithm.name to tpe.") { AtKey = true });
            Values(node, folder, path, shape, parameter.Values, findings);
        }
        else if (parameter is { Min: { } min, Max: { } max })
        {
            if (spec.Algorithm.Name == AlgorithmName.Grid)
                findings.Add(new(place, $"{place} is an interval, but a grid needs 'values'. List them, or set algorithm.name to random, sobol, tpe, gp, cma-es, nsga-ii or pbt.") { AtKey = true });
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

    private static void When(ExperimentSpec spec, JsonObject node, string path, ParameterSpec parameter, List<SpecFinding> findings)
    {
        var place = SpecPath.Entry("parameters", path) + ".when";
        foreach (var (parent, text) in parameter.When ?? new Dictionary<string, string>())
        {
            var at = SpecPath.Entry(place, parent);
            var before = spec.Parameters.Keys.TakeWhile(key => key != path).ToList();
            if (!before.Contains(parent) || spec.Parameters[parent].Values is not { } values)
            {
                var near = Suggestion.Nearest(parent, before.Where(key => spec.Parameters[key].Values is not null));
                findings.Add(new(at, $"{place} names '{parent}', which is no searched parameter with 'values' above this one." + (near is null ? " List its values before, or remove the condition." : $" Did you mean '{near}'?")) { AtKey = true, Suggestion = near });
            }
            else if (SpecPath.Resolve(parent, node, out _) is { } shape && (node["parameters"]![parent]!["values"] as JsonArray)!.Select(value => value!.GetValue<string>()).ToList() is var canonical)
            {
                if (Conditions.Canonical(text, shape, parent, canonical) is { } known) node["parameters"]![path]!["when"]![parent] = known;
                else findings.Add(new(at, $"{at} is {ScalarReading.Quote(text)}, but the values of '{parent}' are {string.Join(", ", values)}.") { Found = text, Expected = string.Join(", ", values), Suggestion = Suggestion.Nearest(text, values) });
            }
        }
    }

    private static void Algorithm(ExperimentSpec spec, List<SpecFinding> findings)
    {
        var (name, algorithm) = (spec.Algorithm.Name, ExperimentSpecJson.NameOf(spec.Algorithm.Name));
        if (spec.Algorithm.Population is { } population && name is not (AlgorithmName.NsgaII or AlgorithmName.Pbt))
            findings.Add(new("algorithm.population", $"algorithm.population is {population}, but {algorithm} has no generations. Remove it, or set algorithm.name to nsga-ii or pbt.") { AtKey = true });
        if (spec.Objectives is { } objectives)
        {
            if (spec.Objective != new ObjectiveSpec())
                findings.Add(new("objectives", "The spec has both 'objective' and 'objectives'. Keep one of them.") { AtKey = true });
            if (objectives.Count is < 2 or > 4)
                findings.Add(new("objectives", $"objectives has {objectives.Count} {(objectives.Count == 1 ? "item" : "items")}, but there must be 2 to 4. For one write 'objective'.") { AtKey = true });
            if (objectives.Select(objective => objective.Metric).Distinct().Count() < objectives.Count)
                findings.Add(new("objectives", "objectives names a metric twice. Remove one.") { AtKey = true });
            if (name is AlgorithmName.Tpe or AlgorithmName.Gp or AlgorithmName.CmaEs or AlgorithmName.Pbt)
                findings.Add(new("objectives", $"A {algorithm} search learns from one number, but there are {objectives.Count} objectives. Set algorithm.name to nsga-ii, random, sobol or grid, or keep one as 'objective'.") { AtKey = true, Suggestion = "nsga-ii" });
            if (objectives.Any(objective => objective.Target is not null))
                findings.Add(new("objectives", "objectives have no target: no single number ends a search for a front. Remove it.") { AtKey = true });
        }

        if (name == AlgorithmName.Pbt && spec.Train.Target is TrainTarget.None or TrainTarget.Noise)
            findings.Add(new("algorithm.name", $"pbt hands trained parameters from trial to trial, but train.target is {ExperimentSpecJson.NameOf(spec.Train.Target)}. Train weights or lora, or set algorithm.name to tpe."));
        foreach (var path in spec.Parameters.Keys)
        {
            // Parameters must fit into the trial that goes on with them.
            if (name == AlgorithmName.Pbt && (path.StartsWith("train.", StringComparison.Ordinal) || path.StartsWith("model.", StringComparison.Ordinal) || path is "training.steps" or "training.seed"))
                findings.Add(new(SpecPath.Entry("parameters", path), $"'{path}' cannot change from generation to generation of pbt. Remove it from 'parameters', or set algorithm.name to tpe.") { AtKey = true });
        }
    }

    private static void Stopping(ExperimentSpec spec, List<SpecFinding> findings)
    {
        if (spec.EarlyStopping is not { } stopping) return;
        var (name, algorithm) = (ExperimentSpecJson.NameOf(stopping.Name), ExperimentSpecJson.NameOf(spec.Algorithm.Name));
        if (spec.Algorithm.Name is AlgorithmName.CmaEs or AlgorithmName.NsgaII or AlgorithmName.Pbt)
            findings.Add(new("earlyStopping", $"A {algorithm} search compares whole trials, so none may stop early. Remove earlyStopping, or set algorithm.name to tpe, gp, random, sobol or grid.") { AtKey = true });
        if (spec.Objectives is not null)
            findings.Add(new("earlyStopping", "earlyStopping ranks by one number, but there are several objectives. Remove it, or keep one as 'objective'.") { AtKey = true });
        if (spec.Parameters.Count == 0)
            findings.Add(new("earlyStopping", "earlyStopping compares trials, but without 'parameters' there is one. Add them, or remove it.") { AtKey = true });
        if (spec.Parameters.ContainsKey("training.steps"))
            findings.Add(new(SpecPath.Entry("parameters", "training.steps"), "'training.steps' cannot be searched with earlyStopping, which chooses how long trials are.") { AtKey = true });
        if (stopping.MinSteps >= spec.Training.Steps)
            findings.Add(new("earlyStopping.minSteps", $"earlyStopping.minSteps is {stopping.MinSteps}, but a trial has {spec.Training.Steps} steps, so none could stop early. Set it lower, or raise training.steps.") { Found = $"{stopping.MinSteps}", Expected = $"less than {spec.Training.Steps}" });
        if (spec.Gradient.Check.Mode == ProofMode.Only || spec.Train.Target == TrainTarget.None)
            findings.Add(new("earlyStopping", "Nothing is trained, so there is nothing to stop early. Remove earlyStopping.") { AtKey = true });
        if (stopping.Name != EarlyStoppingName.Asha && stopping.Mode != HalvingMode.Promotion)
            findings.Add(new("earlyStopping.mode", $"earlyStopping.mode is for asha, but the name is {name}. Remove it.") { AtKey = true });
    }

    private static void Size(ExperimentSpec spec, bool whole, List<SpecFinding> findings)
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

        // Conditions that do not hold together count nothing.
        var points = whole || spec.Parameters.Values.All(parameter => parameter.When is null) ? Conditions.Points(spec.Parameters) : BigInteger.One;
        var count = points == 1 ? "1 point" : string.Create(CultureInfo.InvariantCulture, $"{points} points");
        if (spec.MaxTrials is null && points > MostTrials)
            findings.Add(new("parameters", $"The grid has {count}, more than the {MostTrials} trials an experiment may have. Set maxTrials, or list fewer values."));
        if (spec.MaxTrials > points)
            findings.Add(new("maxTrials", $"maxTrials is {spec.MaxTrials}, but the grid has {count}, so there will be {points} trial{(points == 1 ? "" : "s")}.") { Severity = SpecSeverity.Note });
    }

    private static string Text(double value) => value.ToString(CultureInfo.InvariantCulture).ToLowerInvariant();
}
