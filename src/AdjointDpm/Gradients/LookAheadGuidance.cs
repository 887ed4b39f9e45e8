using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>Training-free guidance by looking ahead: at a step from x_t, a few steps of the sampler's equation lead to a guess of x_0, and the exact gradient of a loss on that guess says where x must go. Symplectic adjoint guidance, SAG (Pan et al. 2023, arXiv:2312.12030).</summary>
/// <remarks>
/// <para>With n steps ahead the guess is better than the one-step guess of universal guidance and FreeDoM, which is <c>Ahead = 1</c>. The gradient is that of the discretised look-ahead to rounding: the symplectic adjoint and reverse-mode differentiation of the same steps are the same numbers (Matsubara et al. 2021).</para>
/// <para>After the step from level n to n + 1, x moves against the gradient g, by a length in units of d = √(σ_n² − (α_n σ_(n+1) / α_(n+1))²), the deviation of the noise that the step takes away: by strength · d · g / rms(g), the root mean square taken over each sample, so that samples of a batch do not influence each other; or, without normalising, by strength · d² / 2 · g, which for a loss −log p(y | x_0) and strength 1 is classifier guidance of the probability flow to first order. (The authors' script normalises, and scales by the size of the classifier-free guidance, which not every model has.)</para>
/// <para>A normalised gradient pushes as hard where the loss is met as where it is not: end it early with <see cref="Until"/>.</para>
/// </remarks>
public sealed record LookAheadGuidance
{
    /// <summary>Scalar loss of x_0, differentiable; may decode first. For samples of a batch that do not influence each other it is a sum or a mean over them.</summary>
    public required Func<Tensor, Tensor> Loss { get; init; }

    /// <summary>Number n of steps ahead, spread evenly over the grid's remaining points; fewer where fewer remain. Default: 4.</summary>
    public int Ahead { get; init; } = 4;

    /// <summary>How far x moves against the gradient, in the units above. Default: 0.2.</summary>
    public double Strength { get; init; } = 0.2;

    /// <summary>Whether each sample's gradient is scaled to a root mean square of one. Default: true.</summary>
    public bool Normalise { get; init; } = true;

    /// <summary>First step that is guided, counted from the noise. Default: 0.</summary>
    public int From { get; init; }

    /// <summary>Step before which guidance ends; null guides to the end. Default: null.</summary>
    public int? Until { get; init; }

    /// <summary>How often a guided step is taken back by fresh noise and taken again ("time travel"), so that the sample stays on the model's manifold. Default: 0.</summary>
    public int Repeats { get; init; }

    /// <summary>Gradient of the look-ahead. Default: <see cref="GradientMethod.Discrete"/>.</summary>
    public GradientMethod Gradient { get; init; } = GradientMethod.Discrete;

    internal bool Guides(int step) => step >= From && step < (Until ?? int.MaxValue);

    internal void Validate(int steps)
    {
        ArgumentNullException.ThrowIfNull(Loss);
        if (Ahead < 1 || Repeats < 0)
            throw new ArgumentException($"The guidance must look at least one step ahead and repeat no fewer than 0 times, but Ahead is {Ahead} and Repeats {Repeats}.");
        if (!double.IsFinite(Strength) || Strength < 0)
            throw new ArgumentException($"The guidance's strength must be a number, not negative, but is {Strength}.");
        if (From < 0 || From >= (Until ?? steps) || Until > steps)
            throw new ArgumentException($"Guidance from step {From} until step {Until?.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "the end"} does not lie within the grid's {steps} steps.");
    }
}
