using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>Adams–Bashforth in rho with coefficients for the grid's own, unequal steps.</summary>
/// <param name="order">Order of convergence, from 2 to 4; also the number of noises combined.</param>
/// <remarks>
/// The weights integrate the Lagrange polynomial through the last noises (Hairer, Nørsett and Wanner, III.5). Coefficients of equal steps, as in torchdiffeq's explicit_adams, diverge on diffusion grids.
/// The first order - 1 steps are Runge–Kutta's, of an order that keeps the whole method's. History: the noises at the points before, latest first.
/// </remarks>
internal sealed class AdamsBashforth(int order) : Sampler
{
    private static readonly ButcherTableau[] Starters = [ButcherTableau.Euler, ButcherTableau.Heun, ButcherTableau.Rk4];

    public override string Name => $"ab{order}";

    public override int Order => order;

    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var points = grid.Points;
        var kept = Math.Min(step + 1, order - 1);
        Term[][] history = [.. Enumerable.Range(0, kept).Select(k => new[] { k == 0 ? Term.Evaluation(0) : Term.Slot(k) })];
        if (step < order - 1)
        {
            var start = new RungeKutta(Name, Starters[order - 2]).Plan(grid, step);
            return new(start.Evaluations, [start.Next[0], .. history]);
        }

        var nodes = Enumerable.Range(0, order).Select(k => points[step - k].Rho).ToArray();
        var weights = Weights(nodes, nodes[0], points[step + 1].Rho);
        return new(
            [new(points[step], [Term.Slot(0)])],
            [[Term.Slot(0), .. weights.Select((w, k) => k == 0 ? Term.Evaluation(0, w) : Term.Slot(k, w))], .. history]);
    }

    /// <summary>Integrals over [from, to] of the Lagrange polynomials of the nodes.</summary>
    internal static double[] Weights(double[] nodes, double from, double to)
    {
        var weights = new double[nodes.Length];
        for (var k = 0; k < nodes.Length; k++)
        {
            // The k-th polynomial in powers of (x - from): products of (x - node) / (node_k - node).
            double[] polynomial = [1];
            for (var j = 0; j < nodes.Length; j++)
            {
                if (j == k)
                    continue;
                var next = new double[polynomial.Length + 1];
                for (var p = 0; p < polynomial.Length; p++)
                {
                    next[p] += polynomial[p] * (from - nodes[j]) / (nodes[k] - nodes[j]);
                    next[p + 1] += polynomial[p] / (nodes[k] - nodes[j]);
                }

                polynomial = next;
            }

            for (var p = 0; p < polynomial.Length; p++)
                weights[k] += polynomial[p] * Math.Pow(to - from, p + 1) / (p + 1);
        }

        return weights;
    }
}

/// <summary>DPM-Solver++ 2M, deterministic or as the stochastic equation's solver. Lu et al. (2022), algorithm 2; the stochastic form as in diffusers' "sde-dpmsolver++".</summary>
/// <param name="stochastic">Whether each step replaces part of the noise by a fresh draw.</param>
/// <remarks>Works on the predicted clean sample D = y - rho eps; history is the D before. The first step, and a step to rho = 0, are of first order.</remarks>
internal sealed class DpmSolverPlusPlus2M(bool stochastic) : Sampler
{
    public override string Name => stochastic ? "sde-dpm++2m" : "dpm++2m";

    public override int Order => stochastic ? 1 : 2;

    public override bool IsStochastic => stochastic;

    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var (from, to) = (grid.Points[step], grid.Points[step + 1]);
        if (from.Rho == 0)
            throw new ArgumentException($"Sampler '{Name}' works in log(alpha / sigma) and cannot start without noise. Start the grid at rho > 0.", nameof(grid));
        // e^-h with h = lambda_to - lambda_from; the stochastic solver forgets twice as fast.
        var keep = Math.Pow(to.Rho / from.Rho, stochastic ? 2 : 1);
        var newest = 1.0;
        if (step > 0 && to.Rho > 0)
        {
            var r = (from.Level.Lambda - grid.Points[step - 1].Level.Lambda) / (to.Level.Lambda - from.Level.Lambda);
            newest += 0.5 / r;
        }

        var move = 1 - keep;
        Term[] next =
        [
            Term.Slot(0, keep + (move * newest)),
            Term.Evaluation(0, -from.Rho * move * newest),
            .. newest == 1 ? [] : new[] { Term.Slot(1, move * (1 - newest)) },
            .. stochastic && to.Rho > 0 ? new[] { Term.Draw(0, to.Rho * Math.Sqrt(move)) } : [],
        ];
        return new([new(from, [Term.Slot(0)])], [next, [Term.Slot(0), Term.Evaluation(0, -from.Rho)]]);
    }
}

/// <summary>DDIM with noise: eta = 0 is DDIM, eta = 1 is ancestral sampling as in DDPM. Song, Meng and Ermon (2021), equation 16.</summary>
/// <param name="eta">How much of the posterior's noise is drawn afresh, from 0 to 1.</param>
internal sealed class NoisyDdim(double eta) : Sampler
{
    public override string Name => eta == 1 ? "ddpm" : FormattableString.Invariant($"ddim(eta={eta})");

    public override int Order => 1;

    public override bool IsStochastic => true;

    public override StepPlan Plan(TimeGrid grid, int step)
    {
        var (from, to) = (grid.Points[step], grid.Points[step + 1]);
        if (to.Rho > from.Rho)
            throw new ArgumentException($"Sampler '{Name}' removes noise; the grid adds it at step {step}.", nameof(grid));
        // The posterior's deviation over alpha_to: eta (sigma_to / sigma_from) sqrt(1 - alpha_from² / alpha_to²) / alpha_to, which in rho reads:
        var fresh = eta * to.Rho * Math.Sqrt(1 - Math.Pow(to.Rho / from.Rho, 2));
        var kept = Math.Sqrt((to.Rho * to.Rho) - (fresh * fresh));
        return new([new(from, [Term.Slot(0)])], [[Term.Slot(0), Term.Evaluation(0, kept - from.Rho), Term.Draw(0, fresh)]]);
    }
}
