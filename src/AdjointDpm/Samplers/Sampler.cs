using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>A way from noise to sample: turns each step of a grid into a <see cref="StepPlan"/>. Immutable and stateless; the state travels in <see cref="SamplerState"/>.</summary>
public abstract class Sampler
{
    /// <summary>Short name, as used in experiment files: "ddim", "heun".</summary>
    public abstract string Name { get; }

    /// <summary>Order of convergence in the largest step.</summary>
    public abstract int Order { get; }

    /// <summary>Whether steps draw noise.</summary>
    public virtual bool IsStochastic => false;

    /// <summary>What slot 0 of the state is. Default: <see cref="Coordinates.Rho"/>, y = x / alpha.</summary>
    public virtual Coordinates Coordinates => Coordinates.Rho;

    /// <summary>The Runge–Kutta method with which the continuous adjoint runs back through this sampler unless told otherwise; null where none is natural.</summary>
    public virtual ButcherTableau? Backward => null;

    /// <summary>DDIM without noise, which is Euler's method in rho. Song, Meng and Ermon (2021). First order, one evaluation a step.</summary>
    public static Sampler Ddim { get; } = new RungeKutta("ddim", ButcherTableau.Euler);

    /// <summary>Heun's method in rho, as in Karras et al. (2022), algorithm 1. Second order, two evaluations a step.</summary>
    public static Sampler Heun { get; } = new RungeKutta("heun", ButcherTableau.Heun);

    /// <summary>The explicit midpoint method in rho. Second order, two evaluations a step.</summary>
    public static Sampler Midpoint { get; } = new RungeKutta("midpoint", ButcherTableau.Midpoint);

    /// <summary>The classical Runge–Kutta method in rho. Fourth order, four evaluations a step.</summary>
    public static Sampler Rk4 { get; } = new RungeKutta("rk4", ButcherTableau.Rk4);

    /// <summary>Kutta's 3/8 rule in rho, which torchdiffeq calls "rk4". Fourth order, four evaluations a step.</summary>
    public static Sampler ThreeEighths { get; } = new RungeKutta("rk4-38", ButcherTableau.ThreeEighths);

    /// <summary>Euler's method on dx/dt = eps - x0, as flow-matching models are sampled; DDIM in exact arithmetic. Liu et al. (2022), Lipman et al. (2023). First order, one evaluation a step.</summary>
    public static Sampler FlowEuler { get; } = new RungeKutta("flow-euler", ButcherTableau.Euler, Coordinates.Flow);

    /// <summary>Heun's method on dx/dt = eps - x0. Second order, two evaluations a step, also at the end without noise.</summary>
    public static Sampler FlowHeun { get; } = new RungeKutta("flow-heun", ButcherTableau.Heun, Coordinates.Flow);

    /// <summary>The explicit midpoint method on dx/dt = eps - x0. Second order, two evaluations a step.</summary>
    public static Sampler FlowMidpoint { get; } = new RungeKutta("flow-midpoint", ButcherTableau.Midpoint, Coordinates.Flow);

    /// <summary>Adams–Bashforth of order 2 with the grid's own step sizes. One evaluation a step.</summary>
    public static Sampler Adams2 { get; } = new AdamsBashforth(2);

    /// <summary>Adams–Bashforth of order 3. One evaluation a step, after two of Heun's.</summary>
    public static Sampler Adams3 { get; } = new AdamsBashforth(3);

    /// <summary>Adams–Bashforth of order 4. One evaluation a step, after three of Runge and Kutta's.</summary>
    public static Sampler Adams4 { get; } = new AdamsBashforth(4);

    /// <summary>DPM-Solver++ 2M. Lu et al. (2022). Second order, one evaluation a step.</summary>
    public static Sampler DpmSolver2M { get; } = new DpmSolverPlusPlus2M(stochastic: false);

    /// <summary>The stochastic DPM-Solver++ 2M: draws noise by <see cref="SampleRequest.Key"/>, so equal keys replay.</summary>
    public static Sampler StochasticDpmSolver2M { get; } = new DpmSolverPlusPlus2M(stochastic: true);

    /// <summary>Ancestral sampling as in DDPM: DDIM with eta = 1. Draws noise by <see cref="SampleRequest.Key"/>.</summary>
    public static Sampler Ddpm { get; } = new NoisyDdim(1);

    /// <summary>All samplers that have a name.</summary>
    public static IReadOnlyList<Sampler> Known { get; } = [Ddim, Heun, Midpoint, Rk4, ThreeEighths, Adams2, Adams3, Adams4, DpmSolver2M, StochasticDpmSolver2M, Ddpm, FlowEuler, FlowHeun, FlowMidpoint];

    /// <summary>DDIM with noise, between DDIM (eta = 0) and DDPM (eta = 1).</summary>
    /// <param name="eta">Share of the posterior's noise that is drawn afresh, from 0 to 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">eta lies outside [0, 1].</exception>
    public static Sampler DdimWithNoise(double eta) => eta switch
    {
        0 => Ddim,
        > 0 and <= 1 => new NoisyDdim(eta),
        _ => throw new ArgumentOutOfRangeException(nameof(eta), eta, $"eta must lie in [0, 1], got {eta}."),
    };

    /// <summary>The sampler with a name; "euler" is another name for "ddim".</summary>
    /// <exception cref="ArgumentException">No sampler has this name.</exception>
    public static Sampler Named(string name)
        => Known.FirstOrDefault(s => s.Name == (name == "euler" ? "ddim" : name))
            ?? throw new ArgumentException($"No sampler is called '{name}'. Known: {string.Join(", ", Known.Select(s => s.Name))}.", nameof(name));

    /// <summary>The numbers of one step.</summary>
    /// <param name="grid">Grid that is being walked; points before the step may be read for multistep coefficients.</param>
    /// <param name="step">The step from point <c>step</c> to point <c>step + 1</c>.</param>
    public abstract StepPlan Plan(TimeGrid grid, int step);

    /// <inheritdoc/>
    public override string ToString() => Name;
}
