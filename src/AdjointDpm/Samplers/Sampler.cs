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

    /// <summary>tau of the equation that the sampler solves, dy = (1 + tau²) eps drho + tau sqrt(2 rho) dw: 0 for the probability flow, 1 for the reverse of the diffusion; null where the noise follows no such equation, as churn does not. Default: 0 without noise, null with.</summary>
    public virtual double? Tau => IsStochastic ? null : 0;

    /// <summary>What slot 0 of the state is. Default: <see cref="Coordinates.Rho"/>, y = x / alpha.</summary>
    public virtual Coordinates Coordinates => Coordinates.Rho;

    /// <summary>The Runge–Kutta method with which the continuous adjoint runs back through this sampler unless told otherwise; null where none is natural.</summary>
    public virtual ButcherTableau? Backward => null;

    /// <summary>DDIM without noise, which is Euler's method in rho. Song, Meng and Ermon (2021), equation 13. First order, one evaluation a step.</summary>
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

    /// <summary>Adams–Bashforth of order 2 in rho with the grid's own step sizes (Hairer, Nørsett and Wanner, III.5). One evaluation a step.</summary>
    public static Sampler Adams2 { get; } = new AdamsBashforth(2);

    /// <summary>Adams–Bashforth of order 3. One evaluation a step, after two of Heun's.</summary>
    public static Sampler Adams3 { get; } = new AdamsBashforth(3);

    /// <summary>Adams–Bashforth of order 4. One evaluation a step, after three of Runge and Kutta's.</summary>
    public static Sampler Adams4 { get; } = new AdamsBashforth(4);

    /// <summary>diffusers' PNDM without its Runge–Kutta start ("PLMS"), the default of Stable Diffusion 1: one step of Heun's method, then Adams–Bashforth up to order 4 with weights for equal steps. Liu et al. (2022). Second order on smooth grids; <see cref="Adams4"/> is better.</summary>
    public static Sampler Plms { get; } = new AdamsBashforth("plms", 4, ButcherTableau.Heun, startSteps: 1, assumesEqualSteps: true);

    /// <summary>Karras et al.'s (2022) DPM-Solver-2: the midpoint method with a geometric midpoint. Second order, two evaluations a step.</summary>
    public static Sampler Dpm2 { get; } = new Dpm2();

    /// <summary>DPM-Solver++ 2M. Lu et al. (2022b), algorithm 2. Second order, one evaluation a step.</summary>
    public static Sampler DpmSolver2M { get; } = new DpmSolver(2);

    /// <summary>DPM-Solver++ 3M as published: errors below those of 2M, second order; see <see cref="DpmSolver.ExactThirdOrder"/>. One evaluation a step.</summary>
    public static Sampler DpmSolver3M { get; } = new DpmSolver(3);

    /// <summary>DPM-Solver++ 3M with the whole of its second difference. Third order, one evaluation a step.</summary>
    public static Sampler DpmSolver3MExact { get; } = new DpmSolver(3) { ExactThirdOrder = true };

    /// <summary>DPM-Solver++ 2S over pairs of steps, as in diffusers. Lu et al. (2022b), algorithm 1. Second order, one evaluation a step.</summary>
    public static Sampler DpmSolver2S { get; } = new DpmSolverSinglestep(Prediction.Sample);

    /// <summary>DPM-Solver 2M in eps. Lu et al. (2022a). Second order, one evaluation a step.</summary>
    public static Sampler DpmSolver2MEpsilon { get; } = new DpmSolver(2, Prediction.Epsilon);

    /// <summary>DPM-Solver 2S in eps over pairs of steps. Second order, one evaluation a step.</summary>
    public static Sampler DpmSolver2SEpsilon { get; } = new DpmSolverSinglestep(Prediction.Epsilon);

    /// <summary>DEIS with two noises. Zhang and Chen (2023). Second order, one evaluation a step.</summary>
    public static Sampler Deis2 { get; } = new Deis(2);

    /// <summary>DEIS with three noises. Third order, one evaluation a step.</summary>
    public static Sampler Deis3 { get; } = new Deis(3);

    /// <summary>UniPC with predictor and corrector of order 2, as in diffusers. Zhao et al. (2023). One evaluation a step; see <see cref="UniPc"/> for its order.</summary>
    public static Sampler UniPc2 { get; } = new UniPc(2);

    /// <summary>UniPC-2 with B(h) = h, "bh1". One evaluation a step.</summary>
    public static Sampler UniPc2Step { get; } = new UniPc(2) { Function = UniPcFunction.Step };

    /// <summary>UniPC with predictor and corrector of order 3. One evaluation a step.</summary>
    public static Sampler UniPc3 { get; } = new UniPc(3);

    /// <summary>The stochastic DPM-Solver++ of order 1. Lu et al. (2022b), section 4.3. One evaluation a step. Draws noise by <see cref="SampleRequest.Key"/>, so equal keys replay.</summary>
    public static Sampler StochasticDpmSolver1 { get; } = new StochasticDpmSolver(1);

    /// <summary>The stochastic DPM-Solver++ 2M: weak order 2, strong order 1. One evaluation a step. Draws noise by <see cref="SampleRequest.Key"/>.</summary>
    public static Sampler StochasticDpmSolver2M { get; } = new StochasticDpmSolver(2);

    /// <summary>Euler–Maruyama on the reverse stochastic equation, dy = 2 eps drho + sqrt(2 rho) dw. One evaluation a step. Draws noise by <see cref="SampleRequest.Key"/>.</summary>
    public static Sampler EulerMaruyama { get; } = new EulerMaruyama(1);

    /// <summary>Heun's method with churn, with the authors' settings for ImageNet. Karras et al. (2022), algorithm 2; <see cref="EdmHeun"/> for others. Draws noise by <see cref="SampleRequest.Key"/>.</summary>
    public static Sampler Edm { get; } = new EdmHeun();

    /// <summary>Ancestral sampling as in DDPM (Ho et al. 2020, algorithm 2): DDIM with eta = 1, which is also ancestral Euler. Draws noise by <see cref="SampleRequest.Key"/>.</summary>
    public static Sampler Ddpm { get; } = new NoisyDdim(1);

    /// <summary>All samplers that have a name.</summary>
    public static IReadOnlyList<Sampler> Known { get; } =
    [
        Ddim, Heun, Midpoint, Rk4, ThreeEighths, FlowEuler, FlowHeun, FlowMidpoint, Dpm2, Adams2, Adams3, Adams4, Plms,
        DpmSolver2M, DpmSolver3M, DpmSolver3MExact, DpmSolver2S, DpmSolver2MEpsilon, DpmSolver2SEpsilon, Deis2, Deis3, UniPc2, UniPc2Step, UniPc3,
        Ddpm, StochasticDpmSolver1, StochasticDpmSolver2M, EulerMaruyama, Edm,
    ];

    /// <summary>DDIM with noise, between DDIM (eta = 0) and DDPM (eta = 1). Song, Meng and Ermon (2021), equation 16. First order, one evaluation and one draw a step.</summary>
    /// <param name="eta">Share of the posterior's noise that is drawn afresh, from 0 to 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">eta lies outside [0, 1].</exception>
    public static Sampler DdimWithNoise(double eta) => eta switch
    {
        0 => Ddim,
        > 0 and <= 1 => new NoisyDdim(eta),
        _ => throw new ArgumentOutOfRangeException(nameof(eta), eta, $"eta must lie in [0, 1], got {eta}."),
    };

    /// <summary>Euler–Maruyama with an amount of noise of its own, on dy = (1 + tau²) eps drho + tau sqrt(2 rho) dw. One evaluation and one draw a step.</summary>
    /// <param name="tau">0 is the probability flow (DDIM), 1 the reverse of the diffusion; more is more.</param>
    /// <exception cref="ArgumentOutOfRangeException">tau is negative or no number.</exception>
    public static Sampler EulerMaruyamaWith(double tau) => tau switch
    {
        0 => Ddim,
        > 0 and < double.PositiveInfinity => new EulerMaruyama(tau),
        _ => throw new ArgumentOutOfRangeException(nameof(tau), tau, $"tau must be a number from 0, got {tau}."),
    };

    /// <summary>The sampler with a name; "euler" is another name for "ddim", "euler-ancestral" for "ddpm".</summary>
    /// <exception cref="ArgumentException">No sampler has this name.</exception>
    public static Sampler Named(string name)
        => Known.FirstOrDefault(s => s.Name == (name switch { "euler" => "ddim", "euler-ancestral" => "ddpm", _ => name }))
            ?? throw new ArgumentException($"No sampler is called '{name}'. Known: {string.Join(", ", Known.Select(s => s.Name))}.", nameof(name));

    /// <summary>The numbers of one step.</summary>
    /// <param name="grid">Grid that is being walked; points before the step may be read for multistep coefficients.</param>
    /// <param name="step">The step from point <c>step</c> to point <c>step + 1</c>.</param>
    public abstract StepPlan Plan(TimeGrid grid, int step);

    /// <inheritdoc/>
    public override string ToString() => Name;
}
