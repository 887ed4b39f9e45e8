using AdjointDpm.Gradients;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Figures;

/// <summary>How far AdjointDEIS is from the gradient of a stochastic sampler that was run. Without noise it is in <see cref="AdjointGap.Steps"/>.</summary>
internal static class AdjointDeisGap
{
    private static readonly (Sampler Sampler, int Order)[] Pairs = [(Sampler.Ddpm, 1), (Sampler.Ddpm, 2), (Sampler.EulerMaruyama, 1), (Sampler.StochasticDpmSolver2M, 1)];
    private static readonly int[] StepCounts = [20, 40, 80, 160, 320];

    public static Study Study { get; } = new(
        "adjoint-deis",
        "adjoints.md",
        ["sampler", "way back", "steps", "evaluations", "x_T: 1 − cosine", "x_T: norm ratio", "means: 1 − cosine", "means: norm ratio"],
        Rows,
        table => [Figure.Of("adjoint-deis", theme => Draw(table, theme))]);

    private static IEnumerable<string[]> Rows()
    {
        using var scope = NewDisposeScope();
        var mixture = new PlaneMixture(samples: 64);
        foreach (var (sampler, order) in Pairs)
        {
            foreach (var steps in StepCounts)
            {
                var method = GradientMethod.AdjointDeis(order);
                using var discrete = mixture.Gradient(sampler, steps);
                using var deis = mixture.Gradient(sampler, steps, method);
                yield return [sampler.Name, Label(order), $"{steps}", .. AdjointGap.Agreement(deis, discrete)];
            }
        }
    }

    private static string Label(int order) => order == 1 ? "1" : "2M";

    private static Chart Draw(Table table, Theme theme)
    {
        var chart = new Chart(theme, "steps", "norm over the sampler's gradient's, at x_T") { X = Scale.Powers(2, 20, 320, from: 20), Y = Scale.Powers(10, 1e-3, 1e6) };
        chart.Guide("exact", [20, 320], [1, 1]);
        foreach (var (sampler, order) in Pairs)
        {
            var rows = table.Rows.Where(r => r[0] == sampler.Name && r[1] == Label(order)).ToArray();
            chart.Line($"{sampler.Name}, {Label(order)}", table.Column("steps", rows), table.Column("x_T: norm ratio", rows));
        }

        return chart;
    }
}
