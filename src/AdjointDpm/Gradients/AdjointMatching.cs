using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>Adjoint matching (Domingo-Enrich, Drozdzal, Karrer and Chen, ICLR 2025): finetunes a diffusion or flow-matching model towards p(x_0) exp(scale r(x_0)), p being what the base model samples, by a regression instead of a gradient through the sampler.</summary>
/// <remarks>
/// <para>Trajectories of the finetuned model are drawn with the memoryless stochastic sampler, tau = 1. Along each, the lean adjoint starts at -scale ∇r(x_0) and is carried back with the base model's vector–Jacobian products alone (equations 38 and 39). The loss regresses the control onto it (equation 37):</para>
/// <para>loss = mean over samples of the sum over steps of ½ ‖v_n + s_n a_(n+1)‖², v_n = (b_n / s_n) (m_n - m_n of the base model).</para>
/// <para>b_n is the step's weight of the prediction m_n, s_n of its draw, and a_(n+1) the lean adjoint after the step, a constant. v is sqrt(h) u of the paper, u = (2 / sigma(t)) (v - v_base) for flows, written for any prediction and any sampler of one evaluation and one draw a step. The authors' code reads the adjoint before the step, a_n; with a_(n+1) the loss is the sampled chain's own, whatever the number of steps: where the finetuned model is the base model its gradient is that of -scale r along the path to rounding, and for a Gaussian chain and a linear reward its minimum is the tilted distribution exactly.</para>
/// <para>The regression is of each step by itself: gradients of weights come from one network graph at a time, and neither explode nor vanish with the number of steps.</para>
/// <para>Memoryless means that x_0 says nothing about x_T. That holds if the grid starts where there is next to no signal; then, and only then, the optimum is the tilted distribution (section 4). It may be sampled with any sampler afterwards.</para>
/// </remarks>
public sealed record AdjointMatching
{
    /// <summary>The model before finetuning. Must not read the inputs that the finetuned field declares; what else it reads is held constant.</summary>
    public required NoiseField BaseField { get; init; }

    /// <summary>Factor of the reward, in units of one over its: how far the model may leave the base model. Default: 1.</summary>
    public double RewardScale { get; init; } = 1;

    /// <summary>Field that draws the trajectories, where it is not the finetuned one: with guidance, as the authors sample Stable Diffusion, while loss and adjoint are without. The optimum is then not exactly the tilted distribution. Default: the finetuned field.</summary>
    public NoiseField? SampledField { get; init; }

    /// <summary>Number of the last steps, those nearest to the sample, that are always matched. Default: all steps, unless <see cref="Drawn"/> is set.</summary>
    public int? Last { get; init; }

    /// <summary>Number of steps drawn, by <see cref="SampleRequest.Key"/>, among the others. They weigh more by so much that the expected loss is that of all steps. Default: none.</summary>
    public int? Drawn { get; init; }

    /// <summary>Leaves out samples' steps whose ‖v + s a‖ reaches this quantile of the call's, in (0, 1); the authors use 0.9. The value is <see cref="MatchingGradients.Threshold"/>. Default: none is left out.</summary>
    public double? ClipQuantile { get; init; }

    /// <summary>Leaves out samples' steps whose ‖v + s a‖ reaches this value, such as a running mean of <see cref="MatchingGradients.Threshold"/>, instead of the call's own quantile. Default: none is left out.</summary>
    public double? ClipAbove { get; init; }

    /// <summary>Whether the result holds the states and the lean adjoint. Default: false.</summary>
    public bool KeepTrajectory { get; init; }

    /// <summary>Draws trajectories and computes the loss and its gradient with respect to the declared inputs of the finetuned field.</summary>
    /// <param name="request">The finetuned field with its inputs, x_T, a grid from noise with next to no signal, and <see cref="Sampler.Ddpm"/>, <see cref="Sampler.StochasticDpmSolver1"/> or <see cref="Sampler.EulerMaruyama"/>. On a <see cref="Schedules.FlowMatching"/> schedule these are the memoryless samplers of flows. Steps without noise, to rho = 0, cannot be controlled and are not matched.</param>
    /// <param name="reward">r of each sample, [B], for x_0 of the noise's shape [B, …]; differentiable. Samples must not depend on each other.</param>
    /// <param name="cancellationToken">Looked at before every step.</param>
    /// <returns>Loss, gradients and what they were made of, owned by the caller.</returns>
    /// <exception cref="ArgumentException">An option is out of range, the base model reads a declared input, or the reward is not one number a sample.</exception>
    /// <exception cref="NotSupportedException">The sampler is not memoryless, or its steps are not of one evaluation and one draw.</exception>
    /// <exception cref="UndeclaredInputException">The field depends on tensors that require grad and were neither declared nor frozen.</exception>
    /// <exception cref="NonFiniteException">A NaN or infinity came up; names the first place.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public MatchingGradients Differentiate(SampleRequest request, Func<Tensor, Tensor> reward, CancellationToken cancellationToken = default)
    {
        Sampling.Validate(request);
        ArgumentNullException.ThrowIfNull(reward);
        Validate(request);
        return Run(guarded: false) ?? Run(guarded: true) ?? throw new NonFiniteException("gradient of adjoint matching");

        MatchingGradients? Run(bool guarded)
        {
            using var scope = NewDisposeScope();
            using var grad = no_grad();
            using var leaves = new BorrowedLeaves(request.Field);
            using var others = new BorrowedLeaves(BaseField);
            using var solve = new Solve(request, guarded, cancellationToken) { Leaves = leaves };
            using var lean = new Solve(request with { Field = BaseField }, guarded, cancellationToken) { Leaves = others };
            using var sampled = new Solve(request with { Field = SampledField ?? request.Field }, guarded, cancellationToken);
            return new Matching(this, solve, lean, SampledField is null ? solve : sampled, leaves).Run(reward);
        }
    }

    /// <summary>The steps that are matched, and the weight of each in the loss; ascending.</summary>
    /// <param name="controlled">Steps with noise, ascending.</param>
    /// <param name="key">Names the draw.</param>
    internal IReadOnlyList<(int Step, double Weight)> Choose(IReadOnlyList<int> controlled, NoiseKey key)
    {
        if (Last is null && Drawn is null)
            return [.. controlled.Select(n => (n, 1.0))];
        var last = Math.Min(Last ?? 0, controlled.Count);
        var others = controlled.Count - last;
        var drawn = Math.Min(Drawn ?? 0, others);
        // The order of normal draws is a permutation; no step of the sampler has this number.
        var order = new double[others];
        CounterNoise.Fill(key with { Draw = ushort.MaxValue }, 0, order);
        var chosen = Enumerable.Range(0, others).OrderBy(i => order[i]).Take(drawn).Order();
        return [.. chosen.Select(i => (controlled[i], (double)others / drawn)), .. controlled.Skip(others).Select(n => (n, 1.0))];
    }

    private void Validate(SampleRequest request)
    {
        if (!double.IsFinite(RewardScale))
            throw new ArgumentException($"RewardScale must be a number, got {RewardScale}.");
        if (Last < 0 || Drawn < 0 || (Last ?? 0) + (Drawn ?? 0) == 0 && (Last ?? Drawn) is not null)
            throw new ArgumentException($"Last and Drawn must not be negative, nor both zero, got {Last} and {Drawn}. Leave both out to match all steps.");
        if (ClipQuantile is not null and not (> 0 and < 1))
            throw new ArgumentException($"ClipQuantile must lie between 0 and 1, got {ClipQuantile}.");
        if (request.Noise.dim() == 0)
            throw new ArgumentException("The noise is a single number; adjoint matching wants samples along the first axis, [B, …].", nameof(request));
        if (!BaseField.Inputs.IsEmpty)
            throw new ArgumentException($"The base field declares input '{BaseField.Inputs[0].Name}', but only the finetuned field has gradients. Declare inputs there.");
        if (request.Sampler.Tau != 1)
            throw new NotSupportedException($"Adjoint matching needs the memoryless sampler, tau = 1, and sampler '{request.Sampler.Name}' is another. Use {Sampler.Ddpm}, {Sampler.StochasticDpmSolver1} or {Sampler.EulerMaruyama}; the finetuned model may be sampled with any.");
    }
}
