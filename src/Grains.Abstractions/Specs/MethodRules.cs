namespace AdjointDpm.Grains.Specs;

/// <summary>Which sampler, grid and gradient go together.</summary>
internal static class MethodRules
{
    public static IEnumerable<SpecFinding> Check(ExperimentSpec spec) => [.. Sampler(spec.Sample), .. Gradient(spec), .. Numbers(spec.Gradient)];

    public static bool IsStochastic(SampleSpec sample) =>
        sample is { Solver: SolverName.Ddpm or SolverName.StochasticDpmSolver1 or SolverName.StochasticDpmSolver2M or SolverName.EulerMaruyama or SolverName.Edm } or { Solver: SolverName.Ddim, Eta: > 0 };

    public static bool IsAdaptive(SolverName solver) => solver is SolverName.Bosh3 or SolverName.Dopri5 or SolverName.Tsit5 or SolverName.Dopri8;

    public static bool IsReversible(SolverName solver) => solver is SolverName.ReversibleMidpoint or SolverName.ReversibleHeun or SolverName.ReversibleRk4;

    private static bool IsSingleStep(SolverName solver) =>
        solver is SolverName.Ddim or SolverName.Heun or SolverName.Midpoint or SolverName.Rk4 or SolverName.ThreeEighths or SolverName.Dpm2 || IsAdaptive(solver) || IsReversible(solver);

    private static bool EndsWithoutNoise(GridName grid) => grid is GridName.Leading or GridName.Trailing or GridName.Linspace;

    private static IEnumerable<SpecFinding> Sampler(SampleSpec sample)
    {
        foreach (var (key, value) in new[] { ("rtol", sample.Rtol), ("atol", sample.Atol) })
            if (value is not null && !IsAdaptive(sample.Solver))
                yield return Unused($"sample.{key}", $"a sampler with fixed steps, {Name(sample.Solver)}", "Remove it, or choose bosh3, dopri5, tsit5 or dopri8");
        if (sample.Eta is not null && sample.Solver != SolverName.Ddim)
            yield return Unused("sample.eta", $"sample.solver {Name(sample.Solver)}", "Remove it, or choose ddim");
    }

    private static IEnumerable<SpecFinding> Gradient(ExperimentSpec spec)
    {
        var (solver, method) = (spec.Sample.Solver, spec.Gradient.Method);
        if (method == GradientName.Reversible && !IsReversible(solver))
            yield return Clash(method, $"undoes the sampler's steps, which {Name(solver)} cannot", "Choose reversible-midpoint, reversible-heun or reversible-rk4 for sample.solver, or discrete for gradient.method", "discrete");
        if (method == GradientName.Continuous && IsStochastic(spec.Sample))
            yield return Clash(method, $"is of the probability flow, but {Name(solver)} draws noise", "Choose discrete, which is exact for it, or adjoint-deis", "discrete");
        else if (method == GradientName.Continuous && !IsSingleStep(solver))
            yield return Clash(method, $"has no way back of its own for {Name(solver)}", "Choose discrete, or a sampler such as ddim, heun or rk4", "discrete");
        if (method is GradientName.Continuous or GradientName.AdjointDeis && EndsWithoutNoise(spec.Sample.Grid))
            yield return Clash(method, $"evaluates the network at the end of each step, where grid {Name(spec.Sample.Grid)} has no noise left", "Choose logsnr, time or karras for sample.grid, or discrete for gradient.method", "discrete");
        if (method == GradientName.AdjointMatching && solver is not (SolverName.Ddpm or SolverName.StochasticDpmSolver1 or SolverName.EulerMaruyama))
            yield return Clash(method, $"needs a memoryless sampler, which {Name(solver)} is not", "Choose ddpm, sde-dpm++1 or euler-maruyama for sample.solver", "discrete");
        if (method == GradientName.ReFL && (IsAdaptive(solver) || IsReversible(solver)))
            yield return Clash(method, $"goes straight to the sample from a point of a fixed grid, which {Name(solver)} does not have", "Choose ddim", "discrete");
        if (method is GradientName.Truncated or GradientName.AlignProp or GradientName.ReFL or GradientName.AdjointMatching && spec.Gradient.Last > spec.Sample.Steps && !IsAdaptive(solver))
            yield return new("gradient.last", $"gradient.last is {spec.Gradient.Last}, but sample.steps is {spec.Sample.Steps}.") { Found = $"{spec.Gradient.Last}", Expected = $"1 to {spec.Sample.Steps}", Severity = SpecSeverity.Note };
        if (method == GradientName.AdjointDeis && (solver == SolverName.Edm || IsAdaptive(solver) || IsReversible(solver)))
            yield return Clash(method, $"is not for {Name(solver)}", "Choose discrete", "discrete");
    }

    private static IEnumerable<SpecFinding> Numbers(GradientSpec gradient)
    {
        foreach (var (key, isSet, owners, required) in new (string, bool, GradientName[], bool)[]
        {
            ("slots", gradient.Slots is not null, [GradientName.Checkpointed], true),
            ("last", gradient.Last is not null, [GradientName.Truncated, GradientName.AlignProp, GradientName.ReFL, GradientName.AdjointMatching], true),
            ("noisings", gradient.Noisings is not null, [GradientName.LowVariance], false),
            ("order", gradient.Order is not null, [GradientName.AdjointDeis], false),
            ("rewardScale", gradient.RewardScale is not null, [GradientName.AdjointMatching], false),
        })
        {
            if (isSet && !owners.Contains(gradient.Method))
                yield return Unused($"gradient.{key}", $"gradient.method {Name(gradient.Method)}", $"Remove it, or choose {string.Join(", ", owners.SkipLast(1).Select(Name))}{(owners.Length > 1 ? " or " : "")}{Name(owners[^1])}");
            if (!isSet && required && gradient.Method == owners[0])
                yield return new("gradient.method", $"gradient.method is {Name(owners[0])}, which needs gradient.{key}.") { Found = "nothing", Expected = "a number from 1" };
        }
    }

    private static SpecFinding Clash(GradientName method, string why, string advice, string suggestion) =>
        new("gradient.method", $"gradient.method {Name(method)} {why}. {advice}.") { Found = Name(method), Suggestion = suggestion };

    public static SpecFinding Unused(string path, string by, string advice) => new(path, $"{path} is not used by {by}. {advice}.") { AtKey = true };

    private static string Name<T>(T value)
        where T : struct, Enum => ExperimentSpecJson.NameOf(value);
}
