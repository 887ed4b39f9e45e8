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

    /// <summary>All samplers that have a name.</summary>
    public static IReadOnlyList<Sampler> Known { get; } = [Ddim, Heun, Midpoint, Rk4, ThreeEighths];

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
