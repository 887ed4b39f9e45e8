using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Figures;

/// <summary>How far approximate gradients are from the gradient of the sampler that was run.</summary>
internal static class AdjointGap
{
    private const int Samples = 64, Whole = 40;
    private static readonly Sampler[] Samplers = [Sampler.Ddim, Sampler.Heun, Sampler.Rk4];

    // Sampler and way back; the continuous adjoint takes the sampler's own method.
    private static readonly (string Name, Sampler Sampler, GradientMethod Method)[] Ways =
    [
        .. Samplers.Select(s => (s.Name, s, GradientMethod.Continuous())),
        ("heun, DEIS-2M", Sampler.Heun, GradientMethod.AdjointDeis(2)),
        ("dpm++2m, DEIS-2M", Sampler.DpmSolver2M, GradientMethod.AdjointDeis(2)),
    ];

    private static readonly int[] StepCounts = [10, 20, 40, 80, 160, 320];
    private static readonly int[] Kept = [1, 2, 5, 10, 15, 20, 25, 30, 35, 40];
    private static readonly ButcherTableau[] Pairs = [ButcherTableau.Bosh3, ButcherTableau.Dopri5, ButcherTableau.Dopri8];

    public static Study Steps { get; } = new(
        "continuous",
        "adjoints.md",
        ["sampler", "steps", "evaluations", "x_T: 1 − cosine", "x_T: norm ratio", "means: 1 − cosine", "means: norm ratio"],
        StepRows,
        table => [Figure.Of("continuous-cosine", theme => DrawSteps(table, theme, cosine: true)), Figure.Of("continuous-norm", theme => DrawSteps(table, theme, cosine: false))]);

    public static Study Truncation { get; } = new(
        "truncated",
        "adjoints.md",
        ["last steps", .. Samplers.SelectMany(s => new[] { $"{s.Name}: cosine", $"{s.Name}: norm ratio" })],
        TruncationRows,
        table => [Figure.Of("truncated", theme => DrawTruncation(table, theme))]);

    public static Study Tolerances { get; } = new(
        "tolerances",
        "adjoints.md",
        ["pair", "tolerance", "evaluations", "error, continuous", "error, discrete", "between the two"],
        ToleranceRows,
        table => [Figure.Of("tolerances", theme => DrawTolerances(table, theme))]);

    private static IEnumerable<string[]> StepRows()
    {
        using var scope = NewDisposeScope();
        var mixture = new PlaneMixture(Samples);
        foreach (var (name, sampler, method) in Ways)
        {
            foreach (var steps in StepCounts)
            {
                using var discrete = mixture.Gradient(sampler, steps);
                using var continuous = mixture.Gradient(sampler, steps, method);
                yield return [name, $"{steps}", .. Agreement(continuous, discrete)];
            }
        }
    }

    /// <summary>Evaluations of a gradient, and its angle and size by tensor.</summary>
    public static IEnumerable<string> Agreement(SampleGradients actual, SampleGradients reference)
        => GradientCheck.Compare(actual, reference).SelectMany(a => new[] { Study.Error(OneMinusCosine(a)), Study.Digits(a.NormRatio, "0.0000") }).Prepend($"{actual.Statistics.ForwardNfe} + {actual.Statistics.BackwardNfe}");

    private static IEnumerable<string[]> TruncationRows()
    {
        using var scope = NewDisposeScope();
        var mixture = new PlaneMixture(Samples);
        foreach (var last in Kept)
        {
            yield return [$"{last}", .. Samplers.SelectMany(sampler =>
            {
                using var whole = mixture.Gradient(sampler, Whole);
                using var truncated = mixture.Gradient(sampler, Whole, GradientMethod.Truncated(last));
                var means = GradientCheck.Compare(truncated, whole)[1];
                return new[] { Study.Digits(means.Cosine, "0.0000"), Study.Digits(means.NormRatio, "0.0000") };
            })];
        }
    }

    private static IEnumerable<string[]> ToleranceRows()
    {
        using var scope = NewDisposeScope();
        var mixture = new PlaneMixture(16);
        using var exact = mixture.Gradient(Adaptive(ButcherTableau.Dopri8, 1e-13), 1);
        foreach (var pair in Pairs)
        {
            foreach (var tolerance in new[] { 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8 })
            {
                var sampler = Adaptive(pair, tolerance);
                using var discrete = mixture.Gradient(sampler, 1);
                using var continuous = mixture.Gradient(sampler, 1, GradientMethod.Continuous(PlaneMixture.Tolerance(tolerance), pair));
                var cost = continuous.Statistics;
                double Noise(SampleGradients a, SampleGradients b) => GradientCheck.Compare(a, b)[0].RelativeError;
                yield return [pair.Name, Study.Digits(tolerance, "0e+0"), $"{cost.ForwardNfe} + {cost.BackwardNfe}", Study.Error(Noise(continuous, exact)), Study.Error(Noise(discrete, exact)), Study.Error(Noise(continuous, discrete))];
            }
        }
    }

    private static AdaptiveSampler Adaptive(ButcherTableau pair, double tolerance) => new(pair, PlaneMixture.Tolerance(tolerance));

    // By the law of cosines, which keeps the digits that 1 - cosine loses.
    private static double OneMinusCosine(GradientAgreement a)
        => Math.Max(0, ((a.RelativeError * a.RelativeError) - ((a.NormRatio - 1) * (a.NormRatio - 1))) / (2 * a.NormRatio));

    private static Chart DrawSteps(Table table, Theme theme, bool cosine)
    {
        var chart = cosine
            ? new Chart(theme, "steps", "1 − cosine to the sampler's gradient at x_T") { X = Scale.Powers(2, 10, 320, from: 10), Y = Scale.Powers(10, 1e-14, 1) }
            : new Chart(theme, "steps", "norm over the sampler's gradient's, at x_T") { X = Scale.Powers(2, 10, 320, from: 10), Y = Scale.Powers(10, 0.01, 1e4) };
        chart.Guide("exact", [10, 320], cosine ? [] : [1, 1]);
        foreach (var (name, _, _) in Ways)
        {
            var rows = table.Rows.Where(r => r[0] == name).ToArray();
            chart.Line(name, table.Column("steps", rows), table.Column(cosine ? "x_T: 1 − cosine" : "x_T: norm ratio", rows));
        }

        return chart;
    }

    private static Chart DrawTruncation(Table table, Theme theme)
    {
        var chart = new Chart(theme, $"last steps differentiated, of {Whole}", "truncated to whole gradient, at the means") { X = Scale.Linear(0, Whole, 5), Y = Scale.Linear(0, 1, 0.2) };
        foreach (var what in new[] { "cosine", "norm ratio" })
            chart.Line(what, table.Column("last steps"), table.Column($"ddim: {what}"));
        return chart;
    }

    private static Chart DrawTolerances(Table table, Theme theme)
    {
        var chart = new Chart(theme, "tolerance, forward and backward", "relative error of the gradient at x_T") { X = Scale.Powers(10, 1e-8, 1e-2), Y = Scale.Powers(10, 1e-8, 10) };
        chart.Guide("error = tolerance", [1e-2, 1e-8], [1e-2, 1e-8]);
        foreach (var pair in Pairs)
        {
            var rows = table.Rows.Where(r => r[0] == pair.Name).ToArray();
            chart.Line(pair.Name, table.Column("tolerance", rows), table.Column("error, continuous", rows));
        }

        return chart;
    }
}
