using System.Globalization;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>The spec of a Katib experiment.</summary>
internal sealed class KatibSweep(SweepImport import)
{
    public JsonObject Read(YamlMap spec)
    {
        import.LeftOut(spec, "objective", "algorithm", "parameters", "earlyStopping", "parallelTrialCount", "maxTrialCount", "maxFailedTrialCount");
        var search = new JsonObject();
        if (SweepImport.Find(spec, "objective") is YamlMap objective)
            search["objective"] = import.Objective(objective, import.Word(objective, "objectiveMetricName"), import.Word(objective, "type") == "maximize", import.Number(objective, "goal"));
        var name = SweepImport.Find(spec, "algorithm") is YamlMap algorithm && import.Word(algorithm, "algorithmName") is { } theirs
            ? import.Among(algorithm, theirs, "The algorithm", ("random", "random"), ("grid", "grid"), ("sobol", "sobol"), ("tpe", "tpe"), ("multivariate-tpe", "tpe"), ("bayesianoptimization", "gp"), ("cmaes", "cma-es"), ("hyperband", "hyperband"), ("pbt", "pbt"))
            : "random";
        search["algorithm"] = new JsonObject { ["name"] = name == "hyperband" ? "random" : name };
        var parameters = new JsonObject();
        foreach (var item in SweepImport.Find(spec, "parameters") is YamlList list ? list.Items : [])
            if (item is YamlMap parameter && import.Word(parameter, "name") is { } called && Domain(parameter, called, name == "grid") is { } domain && import.Path(parameter, called) is { } path)
                parameters[path] = domain;
        search["parameters"] = parameters;
        if (import.Whole(spec, "maxTrialCount") is { } trials)
            search["maxTrials"] = trials;
        else if (name != "grid")
            search["maxTrials"] = 50;
        if (name == "hyperband")
            search["earlyStopping"] = new JsonObject { ["name"] = "hyperband", ["reductionFactor"] = (int)(Setting(SweepImport.Find(spec, "algorithm"), "algorithmSettings", "eta") ?? 3) };
        else if (SweepImport.Find(spec, "earlyStopping") is YamlMap stop)
        {
            search["earlyStopping"] = new JsonObject
            {
                ["name"] = import.Among(stop, import.Word(stop, "algorithmName") ?? "medianstop", "The early stopping", ("medianstop", "median")),
                ["minSteps"] = Math.Max(1, (int)(Setting(stop, "algorithmSettings", "start_step") ?? 4)),
                ["minTrials"] = Math.Max(1, (int)(Setting(stop, "algorithmSettings", "min_trials_required") ?? 3)),
            };
        }
        // Katib's own default.
        search["maxConcurrentTrials"] = import.Whole(spec, "parallelTrialCount") ?? 3;
        if (import.Whole(spec, "maxFailedTrialCount") is { } failures)
            search["budget"] = new JsonObject { ["failures"] = failures };
        return search;
    }

    private JsonObject? Domain(YamlMap parameter, string name, bool grid)
    {
        if (SweepImport.Find(parameter, "feasibleSpace") is not YamlMap space)
        {
            import.Problem(parameter, $"The parameter '{name}' has no feasibleSpace.");
            return null;
        }
        if (SweepImport.Find(space, "list") is { } values)
            return SweepImport.Listed(import.Words(values));
        if (import.Number(space, "min") is not { } min || import.Number(space, "max") is not { } max)
        {
            import.Problem(space, $"The feasibleSpace of '{name}' needs list, or min and max.");
            return null;
        }
        var whole = import.Word(parameter, "parameterType") == "int";
        var log = import.Word(space, "distribution") is "logUniform" or "logNormal";
        if (import.Number(space, "step") is { } step && step > 0 && (grid || !whole || step != 1))
            return SweepImport.Listed(SweepImport.Spread(min, min + Math.Floor((max - min) / step + 1e-9) * step, (int)Math.Clamp(Math.Floor((max - min) / step + 1e-9) + 1, 1, 1000), whole));
        if (import.Word(space, "distribution") is { } bell && bell.EndsWith("ormal", StringComparison.Ordinal))
            import.Note(string.Create(CultureInfo.InvariantCulture, $"The distribution {bell} of '{name}' became {(log ? "logUniform" : "uniform")} from {min} to {max}."));
        return SweepImport.Interval(min, max, whole ? "intUniform" : log ? "logUniform" : "uniform");
    }

    /// <summary>A number of a list of names and values.</summary>
    private double? Setting(YamlItem? item, string list, string name) =>
        item is YamlMap map && SweepImport.Find(map, list) is YamlList settings
            ? settings.Items.OfType<YamlMap>().Where(setting => import.Word(setting, "name") == name).Select(setting => import.Number(setting, "value")).FirstOrDefault()
            : null;
}
