namespace AdjointDpm.Grains.Specs;

/// <summary>Rules across the keys of a spec, the search aside.</summary>
internal static class SpecRules
{
    public static IEnumerable<SpecFinding> Check(ExperimentSpec spec) =>
        [.. LossRules.Check(spec), .. TrainRules.Check(spec), .. Classes(spec), .. Prompts(spec.Sample), .. HeldOut(spec), .. Objective(spec), .. Slots(spec.Resources), .. Memory(spec), .. MethodRules.Check(spec)];

    private static IEnumerable<SpecFinding> Classes(ExperimentSpec spec)
    {
        var seen = new HashSet<int>();
        for (var i = 0; i < (spec.Sample.Classes?.Count ?? 0); i++)
        {
            var (value, path) = (spec.Sample.Classes![i], SpecPath.Item("sample.classes", i));
            if (value < 0) yield return new(path, $"{path} must be a class, counted from 0, but is {value}.") { Found = $"{value}", Expected = "a class, counted from 0" };
            // Several prompts may ask for one class.
            else if (!seen.Add(value) && spec.Sample.Prompts is null) yield return new(path, $"{path} repeats the class {value}. Remove it.") { Found = $"{value}" };
        }
    }

    private static IEnumerable<SpecFinding> Prompts(SampleSpec sample)
    {
        if (sample.PromptsFile is { } file)
            yield return new("sample.promptsFile", "sample.promptsFile is read by whoever reads an experiment file. Write sample.prompts here.") { Found = file };
        if (sample is { Prompts: { } prompts, Classes: { } classes } && prompts.Count != classes.Count)
            yield return new("sample.classes", $"sample.classes holds {classes.Count} classes for {prompts.Count} prompts. Give each prompt the class that a classifier should see, or none.") { Found = $"{classes.Count}", Expected = $"{prompts.Count} classes" };
        if (sample.Prompts is not null) yield break;
        foreach (var (key, isSet) in new[] { ("negativePrompt", sample.NegativePrompt is not null), ("height", sample.Height is not null), ("width", sample.Width is not null) })
            if (isSet)
                yield return new($"sample.{key}", $"sample.{key} is for models that read text, but sample.prompts is not set. Set it, or remove {key}.") { AtKey = true };
    }

    private static IEnumerable<SpecFinding> HeldOut(ExperimentSpec spec)
    {
        if (spec.HeldOut is { Metric: { } metric } && HeldOutMetrics.Of(spec) is var measured && !measured.Contains(metric))
            yield return new("heldOut.metric", $"heldOut.metric is '{metric}', which is not measured here. Choose one of {string.Join(", ", measured)}{(metric is HeldOutMetrics.Diversity or HeldOutMetrics.Distance ? $", or set heldOut.{metric}: true" : "")}.") { Found = metric, Expected = string.Join(", ", measured), Suggestion = Suggestion.Nearest(metric, measured) };
        // Of one sample nobody can say how it differs.
        if (spec.HeldOut is { Diversity: true } && spec.Training.SamplesPerShard is var together && (together == 1 || (spec.Train.Target != TrainTarget.Noise && spec.Training.FixedNoise != true && spec.HeldOut.Samples % together == 1)))
            yield return new("heldOut.diversity", $"heldOut.diversity compares samples that are drawn together, training.samplesPerShard = {together} of them, but of heldOut.samples = {spec.HeldOut.Samples} one would be alone. Change either.") { Found = $"{spec.HeldOut.Samples} samples, {together} at a time" };
        if (spec.HeldOut?.Classifier is not { } judge) yield break;
        for (var i = 0; i < spec.Losses.Count; i++)
        {
            if (spec.Losses[i].Classifier == judge)
                yield return new("heldOut.classifier", $"heldOut.classifier is also the classifier of losses[{i}]. A judge that took part in the training proves nothing: name another one.") { Found = judge };
        }
    }

    private static IEnumerable<SpecFinding> Memory(ExperimentSpec spec)
    {
        if (spec.Resources.Memory is { } memory && ByteSize.Read(memory) is null)
            yield return new("resources.memory", $"resources.memory is '{memory}', which is no size. Write it like 8GB or 512MiB.") { Found = memory, Expected = "a size like 8GB" };
        if (spec.Gradient.Method == GradientName.Auto && spec.Resources.Memory is null)
            yield return new("gradient.method", "gradient.method auto chooses what fits into resources.memory, which is not set. Set it, or choose discrete.") { Found = "auto", Suggestion = "discrete" };
    }

    private static IEnumerable<SpecFinding> Slots(ResourceSpec resources)
    {
        if (resources.SlotsPerTrial is { Min: { } least, Max: { } most } && least > most)
            yield return new("resources.slotsPerTrial", $"resources.slotsPerTrial asks for at least {least} workers and at most {most}. Raise max, or lower min.") { Found = $"{least} to {most}", Expected = "min not above max" };
    }

    private static IEnumerable<SpecFinding> Objective(ExperimentSpec spec)
    {
        for (var i = 0; i < spec.Ranked().Count; i++)
        {
            var (metric, path) = (spec.Ranked()[i].Metric, (spec.Objectives is null ? "objective" : SpecPath.Item("objectives", i)) + ".metric");
            if (!metric.StartsWith("heldOut.", StringComparison.Ordinal)) continue;
            if (spec.HeldOut is null)
                yield return new(path, $"{path} is '{metric}', but the spec has no heldOut. Add it, or rank by 'loss'.") { Found = metric };
            else if (metric.StartsWith("heldOut.accuracy", StringComparison.Ordinal) && spec.HeldOut.Classifier is null)
                yield return new(path, $"{path} is '{metric}', but heldOut has no classifier. Add it, or rank by 'loss'.") { Found = metric };
        }
    }
}
