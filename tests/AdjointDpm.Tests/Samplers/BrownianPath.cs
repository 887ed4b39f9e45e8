using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Tests.Samplers;

/// <summary>Euler–Maruyama on a part of a fine grid's points along the very path that the fine grid draws: a step's increment is the sum of the fine ones.</summary>
/// <param name="fine">Grid whose steps draw one increment each.</param>
internal sealed class BrownianPath(TimeGrid fine) : Sampler
{
    // Draws of a step are numbered from 4 * step on.
    private const int DrawsAStep = 4;

    public override string Name => "brownian-path";

    public override int Order => 1;

    public override bool IsStochastic => true;

    public override double? Tau => 1;

    /// <summary>Every so many points of the fine grid.</summary>
    public TimeGrid Coarse(int steps)
    {
        var each = fine.Steps / steps;
        return new(fine.Schedule, [.. fine.Points.Where((_, n) => n % each == 0)]);
    }

    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var each = fine.Steps / grid.Steps;
        var increments = Enumerable.Range(step * each, each).Select(m =>
        {
            double from = fine.Points[m].Rho, to = fine.Points[m + 1].Rho;
            return Term.Draw(DrawsAStep * (m - step), Math.Sqrt((from - to) * (from + to)));
        });
        var (start, end) = (grid.Points[step], grid.Points[step + 1]);
        return new([new(start, [Term.Slot(0)])], [[Term.Slot(0), Term.Evaluation(0, 2 * (end.Rho - start.Rho)), .. increments]]);
    }
}
