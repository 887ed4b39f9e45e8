using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>Singlestep DPM-Solver and DPM-Solver++ of second order (2S), as in diffusers' DPMSolverSinglestepScheduler: steps are taken in pairs, the first of a pair a predictor of first order, the second one step of second order over the whole pair. One evaluation a step.</summary>
/// <remarks>Lu et al. (2022b), algorithm 1. A last step without partner is of first order. History: y and the prediction at the start of the pair.</remarks>
internal sealed class DpmSolverSinglestep(Prediction form) : Sampler
{
    public override string Name => form == Prediction.Sample ? "dpm++2s" : "dpm-2s";

    public override int Order => 2;

    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var (from, to) = (grid.Points[step], grid.Points[step + 1]);
        if (History.Order(grid, step, 2) == 0)
            return Ddim.Plan(grid, step);
        var m = Combination.Evaluation(0);
        if ((step - History.First(grid)) % 2 == 0)
            return new([new(from, [Term.Slot(0)]) { As = form }], [Advance(Combination.Slot(0), m, from).Terms, [Term.Slot(0)], [Term.Evaluation(0)]]);

        var start = grid.Points[step - 1];
        var difference = (m - Combination.Slot(2)) / ((from.Level.Lambda - start.Level.Lambda) / (to.Level.Lambda - start.Level.Lambda));
        return new([new(from, [Term.Slot(0)]) { As = form }], [Advance(Combination.Slot(1), Combination.Slot(2) + (0.5 * difference), start).Terms]);

        Combination Advance(Combination y, Combination prediction, GridPoint since) => form == Prediction.Sample
            ? (to.Rho / since.Rho * y) + ((1 - (to.Rho / since.Rho)) * prediction)
            : y + ((to.Rho - since.Rho) * prediction);
    }
}
