using System.Globalization;
using System.Text.Json.Nodes;

namespace AdjointDpm.Grains.Specs;

/// <summary>A sweep configuration of W&amp;B.</summary>
internal sealed class WandbSweep(SweepImport import)
{
    private string _method = "random";

    public JsonObject Read(YamlMap sweep)
    {
        import.LeftOut(sweep, "method", "metric", "parameters", "early_terminate", "run_cap", "name");
        var metric = SweepImport.Find(sweep, "metric") as YamlMap;
        _method = import.Among(SweepImport.Find(sweep, "method")!, import.Word(sweep, "method") ?? "", "The method", ("random", "random"), ("grid", "grid"), ("bayes", "gp"));
        var search = new JsonObject
        {
            ["objective"] = metric is null ? import.Objective(null, null, false, null)
                : import.Objective(metric, import.Word(metric, "name"), import.Word(metric, "goal") == "maximize", import.Number(metric, "target")),
            ["algorithm"] = new JsonObject { ["name"] = _method },
        };
        var parameters = new JsonObject();
        Parameters((YamlMap)SweepImport.Find(sweep, "parameters")!, "", parameters);
        search["parameters"] = parameters;
        if (import.Whole(sweep, "run_cap") is { } cap)
            search["maxTrials"] = cap;
        else if (_method != "grid")
        {
            search["maxTrials"] = 50;
            import.Note("A W&B sweep without run_cap never ends; maxTrials was set to 50.");
        }
        if (SweepImport.Find(sweep, "early_terminate") is YamlMap stop)
        {
            var stopping = new JsonObject { ["name"] = import.Among(stop, import.Word(stop, "type") ?? "hyperband", "early_terminate.type", ("hyperband", "hyperband")) };
            var factor = import.Whole(stop, "eta") ?? 3;
            stopping["minSteps"] = import.Whole(stop, "min_iter") ?? (import.Whole(stop, "max_iter") is { } most ? Math.Max(1, (int)(most / Math.Pow(factor, import.Whole(stop, "s") ?? 1))) : 1);
            stopping["reductionFactor"] = factor;
            search["earlyStopping"] = stopping;
        }
        return search;
    }

    private void Parameters(YamlMap map, string prefix, JsonObject parameters)
    {
        foreach (var (key, value) in map.Entries)
        {
            var name = prefix + key.Text;
            if (value is not YamlMap domain)
                import.Problem(value, $"The parameter '{name}' must be a mapping with value, values, or min and max.");
            else if (SweepImport.Find(domain, "parameters") is YamlMap nested)
                Parameters(nested, name + ".", parameters);
            else if (SweepImport.Find(domain, "value") is YamlScalar constant)
                import.Note($"'{name}' is always {constant.Text}: set it in the experiment, or with --set.");
            else if (Domain(key, domain) is { } read && import.Path(key, name) is { } path)
                parameters[path] = read;
        }
    }

    private JsonObject? Domain(YamlScalar key, YamlMap domain)
    {
        if (SweepImport.Find(domain, "values") is { } values)
        {
            if (SweepImport.Find(domain, "probabilities") is not null)
                import.Note($"The probabilities of '{key.Text}' were left out: its values are equally likely here.");
            return SweepImport.Listed(import.Words(values));
        }
        if (import.Number(domain, "min") is not { } min || import.Number(domain, "max") is not { } max)
        {
            import.Problem(key, $"'{key.Text}' has neither values nor min and max{(import.Word(domain, "distribution") is { } word ? $"; the distribution {word} is not bounded, which a search here must be" : "")}. Write min and max.");
            return null;
        }
        var whole = (SweepImport.Find(domain, "min") as YamlScalar)!.Text.All(char.IsAsciiDigit) && (SweepImport.Find(domain, "max") as YamlScalar)!.Text.All(char.IsAsciiDigit);
        var distribution = SweepImport.Find(domain, "distribution") is { } at
            ? import.Among(at, import.Word(domain, "distribution") ?? "", "The distribution", ("uniform", "uniform"), ("int_uniform", "intUniform"), ("q_uniform", "quantized"), ("log_uniform_values", "logUniform"), ("log_uniform", "exponents"))
            : whole ? "intUniform" : "uniform";
        // The ends of log_uniform are natural logarithms.
        if (distribution == "exponents")
            (min, max, distribution) = (Rounded(Math.Exp(min)), Rounded(Math.Exp(max)), "logUniform");
        if (distribution == "quantized")
            return SweepImport.Listed(SweepImport.Spread(min, max, (int)Math.Clamp(Math.Round((max - min) / (import.Number(domain, "q") ?? 1)) + 1, 2, 1000), whole: false));
        return SweepImport.Interval(min, max, distribution);
    }

    // -9.2103 means 1e-4.
    private static double Rounded(double value) => double.Parse(value.ToString("G4", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
}
