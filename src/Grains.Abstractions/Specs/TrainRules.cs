namespace AdjointDpm.Grains.Specs;

/// <summary>What goes with what is trained.</summary>
internal static class TrainRules
{
    public static IEnumerable<SpecFinding> Check(ExperimentSpec spec) => [.. Keys(spec.Train), .. Target(spec), .. Noise(spec), .. LookAhead(spec), .. Guard(spec)];

    private static IEnumerable<SpecFinding> Keys(TrainSpec train)
    {
        var target = ExperimentSpecJson.NameOf(train.Target);
        if (train.Noise is not null && train.Target != TrainTarget.Noise)
            yield return MethodRules.Unused("train.noise", $"train.target {target}", "Remove it, or choose noise");
        if (train.Positions is not null && train.Target != TrainTarget.Condition)
            yield return MethodRules.Unused("train.positions", $"train.target {target}", "Remove it, or choose condition");
        if (train.From is not null && train.Target != TrainTarget.Lora)
            yield return MethodRules.Unused("train.from", $"train.target {target}", "Remove it, or choose lora");
        var seen = new HashSet<int>();
        for (var i = 0; i < (train.Positions?.Count ?? 0); i++)
        {
            var (value, path) = (train.Positions![i], SpecPath.Item("train.positions", i));
            if (value < 0) yield return new(path, $"{path} must be a position, counted from 0, but is {value}.") { Found = $"{value}", Expected = "a position, counted from 0" };
            else if (!seen.Add(value)) yield return new(path, $"{path} repeats the position {value}. Remove it.") { Found = $"{value}" };
        }
    }

    private static IEnumerable<SpecFinding> Target(ExperimentSpec spec)
    {
        var (target, method) = (spec.Train.Target, spec.Gradient.Method);
        if (target == TrainTarget.Noise && method is GradientName.Truncated or GradientName.LowVariance or GradientName.AlignProp or GradientName.ReFL or GradientName.AdjointMatching)
            yield return new("gradient.method", $"gradient.method {ExperimentSpecJson.NameOf(method)} leaves out the first steps, and with them the gradient of x_T, but train.target is noise. Choose discrete.") { Found = ExperimentSpecJson.NameOf(method), Suggestion = "discrete" };
        if (target == TrainTarget.Noise && spec.Training.GradientEncoding is not null and not GradientEncoding.None)
            yield return MethodRules.Unused("training.gradientEncoding", "train.target noise", "Remove it: the gradient is small");
        if (target == TrainTarget.Condition && method == GradientName.AdjointMatching)
            yield return new("gradient.method", "gradient.method adjoint-matching is for weights and lora, but train.target is condition. Choose discrete.") { Found = "adjoint-matching", Suggestion = "discrete" };
        if (spec.Training.FixedNoise == false && target == TrainTarget.Noise)
            yield return new("training.fixedNoise", "training.fixedNoise is false, but train.target noise keeps its samples from step to step. Remove it.") { AtKey = true };
    }

    private static IEnumerable<SpecFinding> Noise(ExperimentSpec spec)
    {
        if (spec.Train is not { Target: TrainTarget.Noise, Noise: { } noise })
            yield break;
        if (spec.Optimizer.Name != OptimizerName.Sgd)
        {
            if (noise.Momentum > 0)
                yield return MethodRules.Unused("train.noise.momentum", "optimizer.name adamw, which has its own", "Remove it, or choose sgd");
            if (noise.Step is not null and not NoiseStepName.Gradient)
                yield return MethodRules.Unused("train.noise.step", "optimizer.name adamw, which scales every value itself", "Remove it, or choose sgd");
        }
        if (noise is { KeepNorm: true, Box: not null })
            yield return new("train.noise.keepNorm", "train.noise.keepNorm and train.noise.box both say where x_T may go, and one undoes the other. Keep one of them.") { AtKey = true };
        if (noise.Box?.Restarts is { } restarts && spec.Training.SamplesPerShard % restarts != 0)
            yield return new("train.noise.box.restarts", $"train.noise.box.restarts is {restarts}, which does not divide training.samplesPerShard = {spec.Training.SamplesPerShard}: the starts of a noise belong into one shard.") { Found = $"{restarts}", Expected = $"a divisor of {spec.Training.SamplesPerShard}" };
    }

    private static IEnumerable<SpecFinding> LookAhead(ExperimentSpec spec)
    {
        if (spec.Train.Target == TrainTarget.None && spec.Sample.LookAhead is null)
            yield return new("train.target", "train.target is none, which draws samples with sample.lookAhead, but that is not set. Set it, or choose what is trained.") { Found = "none" };
        if (spec.Sample.LookAhead is not { } ahead)
            yield break;
        if (spec.Train.Target != TrainTarget.None)
            yield return MethodRules.Unused("sample.lookAhead", $"train.target {ExperimentSpecJson.NameOf(spec.Train.Target)}", "Remove it, or choose none");
        var until = ahead.Until ?? spec.Sample.Steps;
        if (until > spec.Sample.Steps || ahead.From >= until)
            yield return new("sample.lookAhead", $"sample.lookAhead guides from step {ahead.From} until {until}, which does not lie within sample.steps = {spec.Sample.Steps}.") { Found = $"{ahead.From} to {until}", Expected = $"0 to {spec.Sample.Steps}" };
        if (MethodRules.IsAdaptive(spec.Sample.Solver) || MethodRules.IsReversible(spec.Sample.Solver))
            yield return new("sample.lookAhead", $"sample.lookAhead moves the state between steps of a fixed grid, which {ExperimentSpecJson.NameOf(spec.Sample.Solver)} does not have. Choose ddim.") { AtKey = true };
        if (spec.Gradient.Method != GradientName.Discrete)
            yield return new("gradient.method", "With sample.lookAhead the gradient is that of the steps ahead, by the discrete adjoint. Remove gradient.method.") { Found = ExperimentSpecJson.NameOf(spec.Gradient.Method), Suggestion = "discrete" };
    }

    private static IEnumerable<SpecFinding> Guard(ExperimentSpec spec)
    {
        if (spec.HeldOut is { Patience: not null, Every: null })
            yield return new("heldOut.patience", "heldOut.patience counts the evaluations of heldOut.every, which is not set. Set it.") { AtKey = true };
        if (spec.HeldOut?.Every is not null && spec.Train.Target == TrainTarget.None)
            yield return MethodRules.Unused("heldOut.every", "train.target none", "Remove it");
        foreach (var (key, isSet) in new[] { ("label", spec.HeldOut?.Label is not null), ("resize", spec.HeldOut?.Resize is not null) })
            if (isSet && spec.HeldOut?.Classifier is null)
                yield return MethodRules.Unused($"heldOut.{key}", "a heldOut without classifier", "Remove it, or add the classifier");
        foreach (var (key, isSet) in new[] { ("metric", spec.HeldOut?.Metric is not null), ("goal", spec.HeldOut?.Goal is not null) })
            if (isSet && spec.HeldOut?.Every is null)
                yield return MethodRules.Unused($"heldOut.{key}", "evaluations before and after alone", "Remove it, or set heldOut.every");
    }
}
