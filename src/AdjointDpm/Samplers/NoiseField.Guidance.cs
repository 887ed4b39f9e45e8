using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Samplers;

public sealed partial record NoiseField
{
    /// <summary>Classifier-free guidance, eps_u + scale (eps_c - eps_u), by two calls one after the other: half the activations of one call on a doubled batch.</summary>
    /// <param name="unconditional">Prediction without (or with the negative) conditioning.</param>
    /// <param name="conditional">Prediction with conditioning.</param>
    /// <param name="scale">Guidance scale w; 1 is no guidance.</param>
    /// <remarks>Ho and Salimans (2022), equation 6, whose w is this scale less 1. Counted as one evaluation, as papers do.</remarks>
    public static NoiseField Guided(NoisePredictor unconditional, NoisePredictor conditional, double scale)
    {
        ArgumentNullException.ThrowIfNull(unconditional);
        ArgumentNullException.ThrowIfNull(conditional);
        return new([Weighted((x, time, _) => unconditional(x, time), 1 - scale), Weighted((x, time, _) => conditional(x, time), scale)]);
    }

    /// <summary>Classifier-free guidance whose scale is a tensor: declare it with <see cref="With(string, Tensor)"/> to have its gradient.</summary>
    /// <param name="unconditional">Prediction without (or with the negative) conditioning.</param>
    /// <param name="conditional">Prediction with conditioning.</param>
    /// <param name="scale">Guidance scale w: a scalar, or one for each sample, [B, 1, …]. Of the state's dtype.</param>
    public static NoiseField Guided(NoisePredictor unconditional, NoisePredictor conditional, Tensor scale)
    {
        ArgumentNullException.ThrowIfNull(unconditional);
        ArgumentNullException.ThrowIfNull(conditional);
        ArgumentNullException.ThrowIfNull(scale);
        return Guided((x, time, _) => unconditional(x, time), (x, time, _) => conditional(x, time), _ => scale) with { DiffersByStep = false };
    }

    /// <summary>Classifier-free guidance whose parts may differ from step to step.</summary>
    /// <param name="unconditional">Prediction without (or with the negative) conditioning.</param>
    /// <param name="conditional">Prediction with conditioning.</param>
    /// <param name="scale">Guidance scale of a step: a scalar, or one for each sample, [B, 1, …]. Of the state's dtype. Declare the tensors to have their gradients.</param>
    public static NoiseField Guided(SteppedPredictor unconditional, SteppedPredictor conditional, Func<int, Tensor> scale)
    {
        ArgumentNullException.ThrowIfNull(unconditional);
        ArgumentNullException.ThrowIfNull(conditional);
        ArgumentNullException.ThrowIfNull(scale);
        return new([
            (field, x, at, step, wanted) => field.Predict(unconditional, x, at, step, wanted).mul(scale(step).neg().Plus(Rooted.One)),
            (field, x, at, step, wanted) => field.Predict(conditional, x, at, step, wanted).mul(scale(step))]) { DiffersByStep = true };
    }

    /// <summary>Classifier-free guidance by one call on a doubled batch.</summary>
    /// <param name="both">Called with x twice along the batch, [2B, …]; returns the unconditional predictions, then the conditional ones.</param>
    /// <param name="scale">Guidance scale w; 1 is no guidance.</param>
    public static NoiseField GuidedBatched(NoisePredictor both, double scale)
    {
        ArgumentNullException.ThrowIfNull(both);
        return From((x, time) =>
        {
            var halves = both(cat([x, x], 0), time).chunk(2, 0);
            using var w = scale.ToScalar();
            return halves[0].add(halves[1].sub(halves[0]), w);
        });
    }

    /// <summary>Classifier guidance on top of this field: eps - scale sigma ∇_x log p(y | x). Dhariwal and Nichol (2021), algorithm 2.</summary>
    /// <param name="logProbability">log p(y | x) of each sample, [B], for the noisy x and its time; differentiable, twice if <paramref name="exact"/>. Samples must not depend on each other.</param>
    /// <param name="scale">Guidance scale s.</param>
    /// <param name="exact">Whether gradients go through ∇_x log p too, by a second derivative of the classifier. False holds it constant, as the published attack code does: cheaper, and a gradient that lacks -s sigma ∇² log p. Default: true.</param>
    /// <remarks>The fused scaled-dot-product attention of libtorch has no second derivative on the CPU: write attention out, or pass false. Declare the classifier's parameters or freeze them, as any network's.</remarks>
    public NoiseField WithClassifier(NoisePredictor logProbability, double scale, bool exact = true)
    {
        ArgumentNullException.ThrowIfNull(logProbability);
        return this with { Terms = Terms.Add((_, x, at, _, wanted) => ClassifierTerm(logProbability, scale, exact, x, at, wanted)), HasClassifier = true };
    }

    private static FieldTerm Weighted(SteppedPredictor predict, double weight) => (field, x, at, step, wanted) =>
    {
        var part = field.Predict(predict, x, at, step, wanted);
        using var scalar = weight.ToScalar();
        return weight == 1 ? part : part.mul(scalar);
    };

    private static Tensor ClassifierTerm(NoisePredictor logProbability, double scale, bool exact, Tensor x, GridPoint at, Prediction wanted)
    {
        // A change of eps by d changes another prediction by d times its weight of eps.
        var factor = -scale * at.Level.Sigma * Prediction.Epsilon.To(wanted, at.Level).OfGiven;
        using var scalar = factor.ToScalar();
        var differentiable = is_grad_enabled() && exact;
        if (differentiable && !x.requires_grad)
        {
            // Only what the classifier itself depends on can matter: without that there is nothing to differentiate.
            using var scope = NewDisposeScope();
            differentiable = logProbability(x, at.Time).requires_grad;
        }

        return differentiable ? Vjp.DifferentiableGradient(v => logProbability(v, at.Time), x).mul(scalar) : Vjp.Of(v => logProbability(v, at.Time).sum(), x, null).Gradient.mul(scalar);
    }
}
