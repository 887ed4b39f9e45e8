using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>How the gradient of a loss on the sample is carried back through the sampler. A closed set; each serves every sampler unless it says otherwise.</summary>
/// <remarks><c>docs/adjoints.md</c> says which gradient each one gives and how to choose.</remarks>
public abstract class GradientMethod
{
    private protected GradientMethod(string name) => Name = name;

    /// <summary>Name, as used in experiment files and reports.</summary>
    public string Name { get; }

    /// <summary>Whether the gradient is that of the sampler as it was run, equal to <see cref="StoreAll"/> up to rounding; otherwise it approximates another, or leaves steps out.</summary>
    public virtual bool IsExact => false;

    /// <summary>Plain automatic differentiation through the unrolled sampler. Exact for the sampler's discretisation; memory holds the activations of every evaluation.</summary>
    public static GradientMethod StoreAll { get; } = new StoreAll();

    /// <summary>The discrete adjoint: stored states, one network graph at a time. Exact for the sampler's discretisation, equal to <see cref="StoreAll"/> up to rounding; one evaluation and one vector–Jacobian product for each forward evaluation. The default choice.</summary>
    public static GradientMethod Discrete { get; } = new Discrete("discrete");

    /// <summary>The discrete adjoint of a <see cref="ReversibleSampler"/>, whose states are had back by undoing its steps: nothing is stored, whatever the number of steps. Exact for the sampler's discretisation up to the rounding of the way back; one evaluation more than <see cref="Discrete"/> for each forward evaluation.</summary>
    public static GradientMethod Reversible { get; } = new Reversible();

    /// <summary>The continuous adjoint of AdjointDPM (Pan et al., ICLR 2024): the adjoint equation solved back over each step, the state reset to the stored one. Approximates the sampler's gradient and converges to it as steps shrink.</summary>
    /// <param name="backward">Runge–Kutta method of the backward solve. Default: the sampler's own.</param>
    public static GradientMethod Continuous(ButcherTableau? backward = null) => new Continuous(backward);

    /// <summary>The continuous adjoint with step control on its way back: converges to the gradient of the probability-flow equation as the tolerances shrink. Between the points of the requested grid y is solved back together with the adjoint, over an adaptive sampler's own variable and over log rho for others.</summary>
    /// <param name="control">Tolerances of the way back, for y = x / alpha and for p = ∂L/∂y alike: scale the loss, or the absolute tolerance, so that p is not below it.</param>
    /// <param name="backward">Embedded pair of the way back. Default: <see cref="ButcherTableau.Dopri5"/>.</param>
    /// <param name="seminorm">Whether the error is measured on y and p only (Kidger, Chen and Lyons, 2021, "Hey, that's not an ODE"), so that the inputs' gradients, mere quadratures, ask for no steps of their own. Otherwise it is the largest over y, p and each input, as torchdiffeq has it by default. Default: true.</param>
    public static GradientMethod Continuous(StepControl control, ButcherTableau? backward = null, bool seminorm = true)
    {
        ArgumentNullException.ThrowIfNull(control);
        return new AdaptiveContinuous(control, backward ?? ButcherTableau.Dopri5, seminorm);
    }

    /// <summary>AdjointDEIS (Blasingame and Liu, NeurIPS 2024, equations 2.14, 2.15 and 3.3 to 3.5): the adjoint equation of the probability flow, or of the stochastic equation along the path that was drawn, by exponential integrators in lambda = log(alpha / sigma), the state reset to the stored one. Approximates the sampler's gradient and converges to it as steps shrink.</summary>
    /// <param name="order">1, which for the flow is <see cref="Continuous(ButcherTableau?)"/> with Euler's method in rho, or 2 for the multistep 2M. One evaluation and one vector–Jacobian product for each step, whatever the sampler's own. Default: 1.</param>
    /// <remarks>Serves stochastic samplers that have a <see cref="Sampler.Tau"/>. There the noise drops out and the drift counts 1 + tau² times, so that order 1 needs steps that change rho by less than a factor of 1.5; order 2 is reached only where the network's Jacobian does not depend on the state, as the path is rough.</remarks>
    /// <exception cref="ArgumentOutOfRangeException">The order is neither 1 nor 2.</exception>
    public static GradientMethod AdjointDeis(int order = 1) => new AdjointDeis(order);

    /// <summary>The discrete adjoint with few states stored and the others walked again from the one before them: the same bits as <see cref="Discrete"/>, for the fewest steps walked again that so many slots allow, <see cref="CheckpointSchedule.Recomputed"/>.</summary>
    /// <param name="slots">Most states stored at once beside the one in use, at least 1. Griewank and Walther (2000): with s slots every step of N ≤ C(s + r, s) is walked at most r times, so that ten slots make at most two more walks of each of 286 steps.</param>
    public static GradientMethod Checkpointed(int slots) => new Discrete($"checkpointed({slots})", slots: slots);

    /// <summary>The discrete adjoint with its stored states in main memory: the same bits as <see cref="Discrete"/> and as many evaluations, while the device holds one state whatever the number of steps. For devices with memory of their own; on the CPU it spares nothing.</summary>
    public static GradientMethod Offloaded { get; } = new Discrete("offloaded", offloads: true);

    /// <summary>The discrete adjoint of the last steps only, the state before them held constant: DRaFT-K (Clark et al. 2024). The gradient of the noise is zero unless all steps are covered.</summary>
    /// <param name="last">Number of steps K, at least 1.</param>
    public static GradientMethod Truncated(int last) => new Discrete($"truncated({last})", last: last);

    /// <summary>DRaFT-LV (Clark et al. 2024): the gradient of the last step, <c>Truncated(1)</c>, averaged over the sample itself and several noisings of it, each taken up the forward process to the last step's start and back by one step of DDIM. Less variance for two evaluations and one product each; the sample and the loss that are reported are the sampler's own.</summary>
    /// <param name="noisings">Number n of noisings, from 1 to 1024. The paper adds the 1 + n gradients up; here their mean is taken, so that n does not change the learning rate. Their draws belong to <see cref="SampleRequest.Key"/>. Default: 2, as there.</param>
    public static GradientMethod LowVariance(int noisings = 2) => new LowVariance(noisings);

    /// <inheritdoc/>
    public override string ToString() => Name;

    /// <summary>Whether the way forward evaluates the network without a graph, so that the evaluations by which an adaptive sampler found its steps serve again.</summary>
    internal virtual bool WalksWithoutGraph => false;

    private protected static void RefuseControls(Solve solve)
    {
        if (solve.Request.Controls.Count > 0)
            throw new NotSupportedException("The continuous adjoint goes back from each point's state as the sampler came to it, so states that are controlled are not for it. Use GradientMethod.Discrete, or add the controls to the noise, in the predictor.");
    }

    private protected static void RefuseNoise(Sampler sampler)
    {
        if (sampler.IsStochastic)
            throw new NotSupportedException($"The continuous adjoint solves an ordinary differential equation, and sampler '{sampler.Name}' is stochastic. Use GradientMethod.Discrete, or GradientMethod.AdjointDeis for the adjoint of the stochastic equation.");
    }

    /// <summary>Prepares a solve, in the solve's dispose scope, with grad mode off.</summary>
    internal abstract Sweep Begin(Solve solve);
}

/// <summary>One use of a gradient method. Its tensors live in the solve's dispose scope.</summary>
internal abstract class Sweep
{
    /// <summary>Samples, remembering what the way back needs. Declared inputs do not require grad yet.</summary>
    /// <returns>x_0.</returns>
    public abstract Tensor Forward();

    /// <summary>Carries ∂L/∂x_0 back; declared inputs accumulate their gradients in place.</summary>
    /// <param name="gradient">∂L/∂x_0.</param>
    /// <returns>∂L/∂x_T.</returns>
    public abstract Tensor Backward(Tensor gradient);

    /// <summary>Factor of ∂L/∂x_0, where the method averages several samples' gradients. Default: 1.</summary>
    public virtual double SampleWeight => 1;
}
