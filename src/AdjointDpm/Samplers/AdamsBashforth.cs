using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>Adams–Bashforth in rho, started by a Runge–Kutta method. One evaluation a step after the start.</summary>
/// <param name="name">Short name.</param>
/// <param name="noises">Most noises combined, from 2.</param>
/// <param name="starter">Method of the first steps.</param>
/// <param name="startSteps">How many steps it takes, at least 1.</param>
/// <param name="assumesEqualSteps">Whether the weights are the textbook's for equal steps, whatever the grid; from the start on, as many noises are combined as there are.</param>
/// <remarks>
/// Weights integrate the Lagrange polynomial through the last noises on the grid's own steps. Those for equal steps, as in diffusers' PNDM and torchdiffeq's explicit_adams, lose their order on other grids: 2 is left on smooth ones, and with many noises they diverge.
/// History: the noises at the points before, latest first.
/// </remarks>
internal sealed class AdamsBashforth(string name, int noises, ButcherTableau starter, int startSteps, bool assumesEqualSteps = false) : Sampler
{
    /// <summary>The method of an order on unequal steps; starters keep the whole method's order.</summary>
    public AdamsBashforth(int order)
        : this($"ab{order}", order, order switch { 2 => ButcherTableau.Euler, 3 => ButcherTableau.Heun, _ => ButcherTableau.Rk4 }, order - 1)
    {
    }

    public override string Name => name;

    public override int Order => assumesEqualSteps ? 2 : noises;

    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var points = grid.Points;
        var done = step - History.First(grid);
        if (done < 0 || points[step + 1].Level.Alpha == 0)
            return Ddim.Plan(grid, step);
        var history = History.After(History.Kept(grid, step, noises - 1));
        if (done < startSteps)
        {
            var start = new RungeKutta(name, starter).Plan(grid, step);
            // To no noise the plan may ask for x0; nothing reads a history after it.
            return points[step + 1].Rho == 0 ? start : new(start.Evaluations, [start.Next[0], .. history]);
        }

        var used = Math.Min(done + 1, noises);
        double from = points[step].Rho, to = points[step + 1].Rho;
        var weights = assumesEqualSteps
            ? [.. EqualSteps(used).Select(w => w * (to - from))]
            : Interpolation.InRho([.. Enumerable.Range(0, used).Select(k => points[step - k].Rho)], from, to);
        return new(
            [new(points[step], [Term.Slot(0)])],
            [[Term.Slot(0), .. weights.Select((w, k) => k == 0 ? Term.Evaluation(0, w) : Term.Slot(k, w))], .. history]);
    }

    /// <summary>The textbook's weights for unit steps.</summary>
    internal static double[] EqualSteps(int noises) => Interpolation.InRho([.. Enumerable.Range(0, noises).Select(k => (double)-k)], 0, 1);
}

/// <summary>DEIS: Adams–Bashforth in rho with polynomials in log rho. Zhang and Chen (2023), tAB-DEIS; diffusers' DEISMultistepScheduler. One evaluation a step; order 1 is DDIM.</summary>
/// <param name="order">Noises combined, from 1 to 3.</param>
/// <param name="lowerOrderFinal">Whether runs of fewer than 15 steps end with lower orders.</param>
/// <remarks>The first steps are of the order that their history allows. History: the noises at the points before, latest first.</remarks>
internal sealed class Deis(int order, bool lowerOrderFinal = true) : Sampler
{
    public override string Name => $"deis{order}";

    public override int Order => order;

    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var used = History.Order(grid, step, order, lowerOrderFinal);
        if (used == 0)
            return Ddim.Plan(grid, step);
        var weights = Interpolation.InLogRho([.. Enumerable.Range(0, used).Select(k => grid.Points[step - k].Rho)], grid.Points[step].Rho, grid.Points[step + 1].Rho);
        return new(
            [new(grid.Points[step], [Term.Slot(0)])],
            [[Term.Slot(0), .. weights.Select((w, k) => k == 0 ? Term.Evaluation(0, w) : Term.Slot(k, w))], .. History.After(History.Kept(grid, step, order - 1))]);
    }
}
