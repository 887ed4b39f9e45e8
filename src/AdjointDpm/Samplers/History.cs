using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>What multistep methods share: which earlier points they may use, and how they fall back.</summary>
internal static class History
{
    /// <summary>The first point whose prediction may be kept: not one without signal or without noise, where lambda is infinite.</summary>
    public static int First(TimeGrid grid) => Coordinates.Rho.IsRegular(grid.Start.Level) ? 0 : 1;

    /// <summary>Order of a step: no more than there is history for, 0 where a step must be DDIM's as an end of it is pure noise or pure signal, and, if asked, falling at the end of short runs.</summary>
    /// <param name="grid">Grid.</param>
    /// <param name="step">Step.</param>
    /// <param name="order">The method's order.</param>
    /// <param name="lowerOrderFinal">diffusers' lower_order_final: of fewer than 15 steps the last is of order 1, the one before of at most 2.</param>
    public static int Order(TimeGrid grid, int step, int order, bool lowerOrderFinal = false)
    {
        if (!Coordinates.Rho.IsRegular(grid.Points[step + 1].Level))
            return 0;
        order = Math.Min(order, step - First(grid) + 1);
        return lowerOrderFinal && grid.Steps < 15 ? Math.Min(order, grid.Steps - step) : order;
    }

    /// <summary>How many predictions the state holds after a step: this one and those before, latest first.</summary>
    public static int Kept(TimeGrid grid, int step, int most) => Math.Clamp(step - First(grid) + 1, 0, most);

    /// <summary>The history after a step: the evaluation, then the slots of those before.</summary>
    /// <param name="kept">How many.</param>
    /// <param name="slot">Slot of the latest one before.</param>
    public static IEnumerable<IEnumerable<Term>> After(int kept, int slot = 1)
        => Enumerable.Range(0, kept).Select(k => new[] { k == 0 ? Term.Evaluation(0) : Term.Slot(slot + k - 1) });

    /// <summary>lambda of the point some steps before.</summary>
    public static double Lambda(TimeGrid grid, int step) => grid.Points[step].Level.Lambda;
}
