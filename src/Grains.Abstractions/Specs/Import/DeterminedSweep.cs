using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>An experiment configuration of Determined.</summary>
internal sealed class DeterminedSweep(SweepImport import)
{
    public JsonObject Read(YamlMap config)
    {
        import.LeftOut(config, "searcher", "hyperparameters", "name");
        var searcher = (YamlMap)SweepImport.Find(config, "searcher")!;
        var name = import.Among(searcher, import.Word(searcher, "name") ?? "random", "The searcher",
            ("random", "random"), ("grid", "grid"), ("adaptive_asha", "asha"), ("async_halving", "asha"), ("asha", "asha"), ("adaptive", "hyperband"));
        var search = new JsonObject
        {
            ["objective"] = import.Objective(searcher, import.Word(searcher, "metric"), import.Word(searcher, "smaller_is_better") == "false", null),
            ["algorithm"] = new JsonObject { ["name"] = name is "asha" or "hyperband" ? "random" : name },
        };
        var parameters = new JsonObject();
        if (SweepImport.Find(config, "hyperparameters") is YamlMap hyperparameters)
            Parameters(hyperparameters, "", parameters, name == "grid");
        search["parameters"] = parameters;
        if (import.Whole(searcher, "max_trials") is { } trials)
            search["maxTrials"] = trials;
        else if (name != "grid")
            search["maxTrials"] = 50;
        if (name is "asha" or "hyperband")
        {
            var factor = import.Whole(searcher, "divisor") ?? 4;
            var stopping = new JsonObject { ["name"] = name, ["reductionFactor"] = factor };
            // The first look lies so many rungs before the end.
            if ((import.Whole(searcher, "max_time") ?? Length(searcher)) is { } last)
            {
                stopping["minSteps"] = Math.Max(1, (int)(last / Math.Pow(factor, (import.Whole(searcher, "num_rungs") ?? import.Whole(searcher, "max_rungs") ?? 5) - 1)));
                import.Note($"A whole trial had {last} {import.Word(searcher, "time_metric") ?? "steps"}: set training.steps to as many.");
            }
            if (import.Word(searcher, "stop_once") == "true" && name == "asha")
                stopping["mode"] = "stopping";
            search["earlyStopping"] = stopping;
        }
        if (import.Whole(searcher, "max_concurrent_trials") is { } concurrent and > 0)
            search["maxConcurrentTrials"] = concurrent;
        return search;
    }

    /// <summary>max_length: a number, or a mapping of a unit to one.</summary>
    private int? Length(YamlMap searcher) => SweepImport.Find(searcher, "max_length") is YamlMap { Entries: [var (unit, _)] } length ? import.Whole(length, unit.Text)
        : SweepImport.Find(searcher, "max_length") is null ? null : import.Whole(searcher, "max_length");

    private void Parameters(YamlMap map, string prefix, JsonObject parameters, bool grid)
    {
        foreach (var (key, value) in map.Entries)
        {
            var name = prefix + key.Text;
            if (value is YamlMap nested && SweepImport.Find(nested, "type") is null)
                Parameters(nested, name + ".", parameters, grid);
            else if (value is not YamlMap domain || import.Word(domain, "type") == "const")
                import.Note($"'{name}' is always the same: set it in the experiment, or with --set.");
            else if (Domain(key, domain, grid) is { } read && import.Path(key, name) is { } path)
                parameters[path] = read;
        }
    }

    private JsonObject? Domain(YamlScalar key, YamlMap domain, bool grid)
    {
        var type = import.Among(SweepImport.Find(domain, "type")!, import.Word(domain, "type") ?? "", "The type", ("double", "uniform"), ("int", "intUniform"), ("log", "logUniform"), ("categorical", "values"));
        if (type == "values")
        {
            if (SweepImport.Find(domain, "vals") is { } values)
                return SweepImport.Listed(import.Words(values));
            import.Problem(key, $"'{key.Text}' is categorical, but has no vals.");
            return null;
        }
        if (import.Number(domain, "minval") is not { } min || import.Number(domain, "maxval") is not { } max)
        {
            import.Problem(key, $"'{key.Text}' needs minval and maxval.");
            return null;
        }
        // The ends of a log parameter are exponents.
        if (type == "logUniform")
            (min, max) = (Math.Pow(import.Number(domain, "base") ?? 10, min), Math.Pow(import.Number(domain, "base") ?? 10, max));
        if (!grid)
            return SweepImport.Interval(min, max, type);
        if (import.Whole(domain, "count") is not { } count)
        {
            if (type == "intUniform" && max - min < 1000)
                return SweepImport.Listed(SweepImport.Spread(min, max, (int)(max - min) + 1, whole: true));
            import.Problem(key, $"A grid over '{key.Text}' needs count.");
            return null;
        }
        return SweepImport.Listed(SweepImport.Spread(min, max, count, type == "intUniform", type == "logUniform"));
    }
}
