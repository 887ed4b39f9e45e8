using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>DDIM with noise: eta = 0 is DDIM, eta = 1 is ancestral sampling as in DDPM, which in these coordinates is also k-diffusion's ancestral Euler. Song, Meng and Ermon (2021), equation 16.</summary>
/// <param name="eta">How much of the posterior's noise is drawn afresh, from 0 to 1.</param>
internal sealed class NoisyDdim(double eta) : Sampler
{
    public override string Name => eta == 1 ? "ddpm" : FormattableString.Invariant($"ddim(eta={eta})");

    public override int Order => 1;

    public override bool IsStochastic => true;

    public override double? Tau => eta;

    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var (from, to) = (grid.Points[step], grid.Points[step + 1]);
        if (to.Rho > from.Rho)
            throw new ArgumentException($"Sampler '{Name}' removes noise; the grid adds it at step {step}.", nameof(grid));
        // The posterior's deviation over alpha_to: eta (sigma_to / sigma_from) sqrt(1 - alpha_from² / alpha_to²) / alpha_to, which in rho reads:
        var fresh = eta * to.Rho * Math.Sqrt(1 - Math.Pow(to.Rho / from.Rho, 2));
        var kept = Math.Sqrt((to.Rho * to.Rho) - (fresh * fresh));
        // Of pure noise slot 0 holds eps, and the network tells x0.
        return from.Level.Alpha == 0
            ? new([new(from, [Term.Slot(0)]) { As = Prediction.Sample }], [[Term.Slot(0, kept), Term.Evaluation(0), Term.Draw(0, fresh)]])
            : new([new(from, [Term.Slot(0)])], [[Term.Slot(0), Term.Evaluation(0, kept - from.Rho), Term.Draw(0, fresh)]]);
    }
}

/// <summary>SDE-DPM-Solver++ of orders 1 and 2 (2M), diffusers' "sde-dpmsolver++". Lu et al. (2022b), section 4.3. One evaluation and one draw a step.</summary>
/// <param name="order">Predictions combined, 1 or 2. The strong order is 1 for both; the weak order is the number.</param>
/// <remarks>Exact for a constant x0: y_t = e^-2h y_s + (1 - e^-2h) (m + difference / 2) + rho_t sqrt(1 - e^-2h) xi. History: the prediction before.</remarks>
internal sealed class StochasticDpmSolver(int order) : Sampler
{
    public override string Name => order == 1 ? "sde-dpm++1" : "sde-dpm++2m";

    public override int Order => 1;

    public override bool IsStochastic => true;

    public override double? Tau => 1;

    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var (from, to) = (grid.Points[step], grid.Points[step + 1]);
        if (from.Rho == 0 || to.Rho > from.Rho)
            throw new ArgumentException($"Sampler '{Name}' removes noise; the grid adds it at step {step}.", nameof(grid));
        var used = History.Order(grid, step, order);
        var m = Combination.Evaluation(0);
        var ratio = Math.Pow(to.Rho / from.Rho, 2);
        var next = (ratio * Combination.Slot(0)) + ((1 - ratio) * m) + (to.Rho * Math.Sqrt(1 - ratio) * Combination.Draw(0));
        if (used == 2)
            next += (1 - ratio) / 2 / ((from.Level.Lambda - History.Lambda(grid, step - 1)) / (to.Level.Lambda - from.Level.Lambda)) * (m - Combination.Slot(1));
        return new([new(from, [Term.Slot(0)]) { As = Prediction.Sample }], [next.Terms, .. History.After(History.Kept(grid, step, order - 1))]);
    }
}

/// <summary>The Euler–Maruyama method on the reverse stochastic equation dy = (1 + tau²) eps drho + tau sqrt(2 rho) dw. Song et al. (2021b), equation 6, in rho. One evaluation and one draw a step.</summary>
/// <param name="tau">Amount of noise: 0 is the probability flow (DDIM), 1 the reverse of the diffusion.</param>
/// <remarks>The noise does not depend on the state, so its integral over a step is drawn exactly: deviation tau sqrt(rho_s² - rho_t²). Strong and weak order 1. Steps from pure noise or to no noise are those of <see cref="Sampler.Ddpm"/>.</remarks>
internal sealed class EulerMaruyama(double tau) : Sampler
{
    public override string Name => tau == 1 ? "euler-maruyama" : FormattableString.Invariant($"euler-maruyama(tau={tau})");

    public override int Order => 1;

    public override bool IsStochastic => true;

    public override double? Tau => tau;

    public override StepPlan Plan(TimeGrid grid, int step)
    {
        double from = grid.Points[step].Rho, to = grid.Points[step + 1].Rho;
        if (!Coordinates.IsRegular(grid.Points[step].Level) || to == 0 || to > from)
            return Ddpm.Plan(grid, step);
        return new(
            [new(grid.Points[step], [Term.Slot(0)])],
            [[Term.Slot(0), Term.Evaluation(0, (1 + (tau * tau)) * (to - from)), Term.Draw(0, tau * Math.Sqrt((from - to) * (from + to)))]]);
    }
}
