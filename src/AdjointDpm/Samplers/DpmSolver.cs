using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>How a second-order DPM-Solver weighs its difference of predictions; "solver_type" in diffusers.</summary>
public enum DpmCorrection
{
    /// <summary>Half of phi_1, exact for constant steps in the limit: diffusers' default.</summary>
    Midpoint,

    /// <summary>The exact integral of the linear interpolation.</summary>
    Heun,
}

/// <summary>Multistep DPM-Solver (Lu et al. 2022a, in eps) and DPM-Solver++ (Lu et al. 2022b, in x0), orders 1 to 3, as in diffusers' DPMSolverMultistepScheduler. One evaluation a step.</summary>
/// <remarks>
/// <para>With h = lambda_t - lambda_s and D differences of the predictions m before: x0 form y_t = e^-h y_s + h phi_1(-h) m + …, eps form y_t = y_s + (rho_t - rho_s) m + …</para>
/// <para>Order 1 is DDIM. The first steps are of the order that their history allows.</para>
/// <para>The third-order formula of the paper's code, which every sampler library repeats, has half the weight that Taylor's formula gives its second difference, and so converges with order 2. <see cref="ExactThirdOrder"/> uses the whole.</para>
/// </remarks>
public sealed class DpmSolver : Sampler
{
    private readonly int _terms;

    /// <summary>A multistep DPM-Solver.</summary>
    /// <param name="order">Predictions combined, from 1 to 3.</param>
    /// <param name="form"><see cref="Prediction.Sample"/> for DPM-Solver++, <see cref="Prediction.Epsilon"/> for DPM-Solver. Default: DPM-Solver++.</param>
    /// <exception cref="ArgumentOutOfRangeException">The order or the form is none of these.</exception>
    public DpmSolver(int order, Prediction form = Prediction.Sample)
    {
        if (order is < 1 or > 3)
            throw new ArgumentOutOfRangeException(nameof(order), order, $"DPM-Solver has multistep orders 1 to 3, not {order}.");
        if (form is not (Prediction.Sample or Prediction.Epsilon))
            throw new ArgumentOutOfRangeException(nameof(form), form, $"DPM-Solver works in Sample (++) or Epsilon, not in {form}.");
        (_terms, Form) = (order, form);
    }

    /// <summary>The prediction that is interpolated.</summary>
    public Prediction Form { get; }

    /// <summary>Weights of order 2. Default: <see cref="DpmCorrection.Midpoint"/>.</summary>
    public DpmCorrection Correction { get; init; }

    /// <summary>Whether runs of fewer than 15 steps end with lower orders, which diffusers and the authors advise. Default: true.</summary>
    public bool LowerOrderFinal { get; init; } = true;

    /// <summary>Whether the last step is of order 1 in runs of any length: diffusers' euler_at_final. Default: false.</summary>
    public bool EulerAtFinal { get; init; }

    /// <summary>Whether order 3 is truly of third order, rather than as published. Default: false.</summary>
    public bool ExactThirdOrder { get; init; }

    /// <inheritdoc/>
    public override string Name => $"dpm{(Form == Prediction.Sample ? "++" : "-")}{_terms}{(_terms == 1 ? "" : "m")}{(ExactThirdOrder ? "-exact" : "")}{(_terms == 2 && Correction == DpmCorrection.Heun ? "-heun" : "")}";

    /// <inheritdoc/>
    public override int Order => _terms == 3 && !ExactThirdOrder ? 2 : _terms;

    /// <inheritdoc/>
    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var (from, to) = (grid.Points[step], grid.Points[step + 1]);
        var (order, kept) = (History.Order(grid, step, _terms, LowerOrderFinal), History.Kept(grid, step, _terms - 1));
        if (order == 0)
            return Ddim.Plan(grid, step);
        if (EulerAtFinal && step == grid.Steps - 1)
            order = 1;
        var m = Combination.Evaluation(0);
        var h = to.Level.Lambda - from.Level.Lambda;
        var (first, second) = (Combination.Zero, Combination.Zero);
        if (order > 1)
        {
            var r0 = (from.Level.Lambda - History.Lambda(grid, step - 1)) / h;
            first = (m - Combination.Slot(1)) / r0;
            if (order > 2)
            {
                var r1 = (History.Lambda(grid, step - 1) - History.Lambda(grid, step - 2)) / h;
                var older = (Combination.Slot(1) - Combination.Slot(2)) / r1;
                second = (first - older) / (r0 + r1);
                first += r0 * second;
            }
        }

        var next = Form == Prediction.Sample ? Data() : Noise();
        return new([new(from, [Term.Slot(0)]) { As = Form }], [next.Terms, .. History.After(kept)]);

        Combination Data()
        {
            var ratio = to.Rho / from.Rho;
            var move = order == 2 && Correction == DpmCorrection.Midpoint ? (1 - ratio) / 2 : order > 1 ? h * Phi.At(2, -h) : 0;
            var curve = order > 2 ? (ExactThirdOrder ? 2 : 1) * h * Phi.At(3, -h) : 0;
            return (ratio * Combination.Slot(0)) + ((1 - ratio) * m) + (move * first) + (curve * second);
        }

        Combination Noise()
        {
            var distance = to.Rho - from.Rho;
            var move = order == 2 && Correction == DpmCorrection.Midpoint ? distance / 2 : order > 1 ? -to.Rho * h * Phi.At(2, h) : 0;
            var curve = order > 2 ? (ExactThirdOrder ? 2 : 1) * -to.Rho * h * Phi.At(3, h) : 0;
            return Combination.Slot(0) + (distance * m) + (move * first) + (curve * second);
        }
    }
}
