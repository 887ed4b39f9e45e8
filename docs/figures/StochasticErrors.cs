using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Figures;

/// <summary>Weak errors of stochastic samplers, without sampling: for data N(0, v) the sample is linear in x_T and the draws, so its variance follows from the plans.</summary>
internal static class StochasticErrors
{
    private const double Variance = 0.25;
    private static readonly int[] Budgets = [8, 16, 32, 64, 128, 256, 512];

    public static Study Study { get; } = new("stochastic-samplers", "samplers.md", ["sampler", .. Budgets.Select(b => $"{b}")], Rows, table => [Figure.Of("stochastic-errors", theme => Draw(table, theme))]);

    private static IEnumerable<string[]> Rows() => Sampler.Known.Where(s => s.IsStochastic)
        .Select(sampler => (string[])[$"`{sampler.Name}`", .. Budgets.Select(b => Study.Error(Error(sampler, SamplerErrors.StepsWithin(sampler, b))))]);

    private static double Error(Sampler sampler, int steps)
    {
        var grid = TimeGrid.LogSnr(PlaneMixture.Schedule, steps);
        // Each tensor is a row of coefficients: of x_T first, then of every step's draw.
        double[] noise = [1, .. new double[steps]];
        var slots = new[] { Times(1 / sampler.Coordinates.Scale(grid.Start.Level), noise) };
        for (var n = 0; n < steps; n++)
        {
            var plan = sampler.Plan(grid, n);
            var evaluations = new List<double[]>();
            double[] Sum(IEnumerable<Term> terms) => terms.Aggregate(new double[steps + 1], (sum, t) => [.. sum.Zip(Times(t.Weight, t.Source switch
            {
                TermSource.Slot => slots[t.Index],
                TermSource.Evaluation => evaluations[t.Index],
                _ => [.. Enumerable.Range(0, steps + 1).Select(i => i == n + 1 ? 1.0 : 0)],
            }), (a, b) => a + b)]);
            foreach (var e in plan.Evaluations)
                evaluations.Add(Times(e.Scale * Gain(e.At.Level, e.As), Sum(e.Y)));
            slots = [.. plan.Next.Select(terms => Sum(terms))];
        }

        var (start, end) = (grid.Start.Level, grid.End.Level);
        var sample = Times(sampler.Coordinates.Scale(end), slots[0]);
        var variance = (sample[0] * sample[0] * Marginal(start)) + sample[1..].Sum(c => c * c);
        return Math.Abs((variance / Marginal(end)) - 1);
    }

    // The network: x0 is alpha v x over the variance of x.
    private static double Gain(NoiseLevel level, Prediction wanted)
    {
        var (ofX, ofSample) = Prediction.Sample.To(wanted, level);
        return ofX + (ofSample * level.Alpha * Variance / Marginal(level));
    }

    private static double Marginal(NoiseLevel level) => (level.Alpha * level.Alpha * Variance) + (level.Sigma * level.Sigma);

    private static double[] Times(double weight, double[] row) => [.. row.Select(c => weight * c)];

    private static Chart Draw(Table table, Theme theme)
    {
        var chart = new Chart(theme, "network evaluations (NFE)", "relative error of the sample's variance") { X = Scale.Powers(2, 8, 512), Y = Scale.Powers(10, 1e-5, 10) };
        foreach (var order in new[] { 1, 2 })
            chart.Guide($"order {order}", [8, 24], [2e-3, 2e-3 * Math.Pow(3, -order)]);
        foreach (var row in table.Rows)
            chart.Line(row[0].Trim('`'), [.. Budgets.Select(b => (double)b)], [.. row[1..].Select(Table.Number)]);
        return chart;
    }
}
