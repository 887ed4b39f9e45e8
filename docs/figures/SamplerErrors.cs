using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Figures;

/// <summary>Error of every deterministic sampler against the evaluations it was given.</summary>
internal static class SamplerErrors
{
    private static readonly int[] Budgets = [8, 16, 32, 64, 128, 256];
    private static readonly double[] Tolerances = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8];
    private static readonly ButcherTableau[] Pairs = [ButcherTableau.Bosh3, ButcherTableau.Dopri5, ButcherTableau.Tsit5, ButcherTableau.Dopri8];

    // Samplers whose lines do not lie on each other, and adaptive ones.
    private static readonly string[] Drawn = ["ddim", "heun", "dpm++2m", "deis3", "unipc3", "ab4", "rk4"];

    public static Study Fixed { get; } = new("samplers", "samplers.md", ["sampler", "order", .. Budgets.Select(b => $"{b}")], FixedRows, table => [Figure.Of("sampler-errors", theme => Draw(table, theme))]);

    public static Study Adaptive { get; } = new("adaptive-samplers", "samplers.md", ["tolerance", .. Pairs.Select(p => p.Name)], AdaptiveRows, table => [Figure.Of("adaptive-errors", theme => DrawAdaptive(table, theme))]);

    private static IEnumerable<string[]> FixedRows()
    {
        using var scope = NewDisposeScope();
        var mixture = new PlaneMixture(64);
        using var exact = mixture.Exact();
        foreach (var sampler in Sampler.Known.Where(s => !s.IsStochastic))
            yield return [$"`{sampler.Name}`", $"{sampler.Order}", .. Budgets.Select(b => Study.Error(StepsWithin(sampler, b) is var steps and > 0 ? Error(mixture, sampler, steps, exact).Error : double.NaN))];
    }

    private static IEnumerable<string[]> AdaptiveRows()
    {
        using var scope = NewDisposeScope();
        var mixture = new PlaneMixture(64);
        using var exact = mixture.Exact();
        foreach (var tolerance in Tolerances)
        {
            yield return [Study.Digits(tolerance, "0e+0"), .. Pairs.Select(pair =>
            {
                var (error, nfe) = Error(mixture, new AdaptiveSampler(pair, PlaneMixture.Tolerance(tolerance)), 1, exact);
                return $"{nfe}: {Study.Error(error)}";
            })];
        }
    }

    /// <summary>Root mean square over samples of the distance to the exact flow's.</summary>
    private static (double Error, int Nfe) Error(PlaneMixture mixture, Sampler sampler, int steps, Tensor exact)
    {
        using var scope = NewDisposeScope();
        using var result = Sampling.Sample(mixture.Request(sampler, steps));
        return (Math.Sqrt(result.Sample.sub(exact).square().sum(-1).mean().ToDouble()), result.Statistics.ForwardNfe);
    }

    /// <summary>Most steps that take no more evaluations; 0 if there are none.</summary>
    public static int StepsWithin(Sampler sampler, int budget)
    {
        for (var steps = budget; steps > 0; steps--)
        {
            var grid = Schedules.TimeGrid.LogSnr(PlaneMixture.Schedule, steps);
            if (Enumerable.Range(0, steps).Sum(n => sampler.Plan(grid, n).Evaluations.Length) <= budget)
                return steps;
        }

        return 0;
    }

    private static Chart Draw(Table table, Theme theme)
    {
        var chart = new Chart(theme, "network evaluations (NFE)", "error of the sample, RMS (units of the data)") { X = Scale.Powers(2, 8, 256), Y = Scale.Powers(10, 1e-6, 10) };
        foreach (var order in new[] { 1, 2, 3, 4 })
            chart.Guide($"order {order}", [8, 24], [1e-2, 1e-2 * Math.Pow(3, -order)]);
        foreach (var name in Drawn)
            chart.Line(name, [.. Budgets.Select(b => (double)b)], [.. table.Rows.Single(r => r[0] == $"`{name}`")[2..].Select(Table.Number)]);
        return chart;
    }

    private static Chart DrawAdaptive(Table table, Theme theme)
    {
        var chart = new Chart(theme, "network evaluations, rejected steps included (NFE)", "error of the sample, RMS (units of the data)") { X = Scale.Powers(2, 16, 4096), Y = Scale.Powers(10, 1e-9, 10) };
        foreach (var pair in Pairs)
        {
            var cells = table.Rows.Select(r => r[Array.IndexOf(table.Header, pair.Name)].Split(": ")).ToArray();
            chart.Line(pair.Name, [.. cells.Select(c => Table.Number(c[0]))], [.. cells.Select(c => Table.Number(c[1]))]);
        }

        return chart;
    }
}
