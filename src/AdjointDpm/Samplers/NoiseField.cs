using System.Collections.Immutable;
using AdjointDpm.Schedules;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Samplers;

/// <summary>A network's prediction for a noisy input.</summary>
/// <param name="x">Noisy input alpha x0 + sigma eps, in the dtype of the sampled noise; cast it to the network's dtype inside if that differs.</param>
/// <param name="time">Time in the schedule's unit.</param>
/// <returns>Prediction, of x's shape, in any floating dtype.</returns>
/// <remarks>Must be a deterministic function of x, the time and the declared inputs: gradient methods evaluate it again. Put networks with dropout into evaluation mode.</remarks>
public delegate Tensor NoisePredictor(Tensor x, double time);

/// <summary>A tensor to differentiate with respect to, and the name by which results and errors call it.</summary>
/// <param name="Name">Unique name, such as "conditioning" or "unet.conv_in.weight".</param>
/// <param name="Value">A leaf tensor that the predictor reads.</param>
public readonly record struct DeclaredInput(string Name, Tensor Value);

/// <summary>A noise predictor together with everything that may receive a gradient through it.</summary>
/// <remarks>
/// <para>Inputs are declared: <see cref="With(string, Tensor)"/> names a tensor to differentiate, <see cref="Freeze"/> a network to hold constant. A captured tensor that requires grad and is neither is an error when gradients are asked for: never a silent zero.</para>
/// <para>Holds tensors but owns none. During <c>Sampling.Differentiate</c> the declared tensors' requires_grad and grad are borrowed and put back, so one network must not be differentiated by two threads at once.</para>
/// </remarks>
public sealed record NoiseField
{

    private NoiseField(ImmutableArray<WeightedPredictor> terms) => Terms = terms;

    /// <summary>What the predictors predict. Default: <see cref="Prediction.Epsilon"/>.</summary>
    public Prediction Prediction { get; init; } = Prediction.Epsilon;

    /// <summary>Declared inputs, in the order of declaration: the order of gradients in results.</summary>
    public ImmutableArray<DeclaredInput> Inputs { get; private init; } = [];

    /// <summary>Tensors held constant although they may require grad elsewhere.</summary>
    internal ImmutableArray<Tensor> Frozen { get; private init; } = [];

    /// <summary>Predictors whose weighted sum is the prediction; each is differentiated on its own, so that one graph is held at a time.</summary>
    internal ImmutableArray<WeightedPredictor> Terms { get; }

    private ImmutableArray<(string Prefix, nn.Module Network)> Known { get; init; } = [];

    /// <summary>A field of one predictor.</summary>
    public static NoiseField From(NoisePredictor predict)
    {
        ArgumentNullException.ThrowIfNull(predict);
        return new([new(1, predict)]);
    }

    /// <summary>Classifier-free guidance, eps_u + scale (eps_c - eps_u), by two calls one after the other: half the activations of one call on a doubled batch.</summary>
    /// <param name="unconditional">Prediction without (or with the negative) conditioning.</param>
    /// <param name="conditional">Prediction with conditioning.</param>
    /// <param name="scale">Guidance scale w; 1 is no guidance.</param>
    /// <remarks>Ho and Salimans (2022). Counted as one evaluation, as papers do.</remarks>
    public static NoiseField Guided(NoisePredictor unconditional, NoisePredictor conditional, double scale)
    {
        ArgumentNullException.ThrowIfNull(unconditional);
        ArgumentNullException.ThrowIfNull(conditional);
        return new([new(1 - scale, unconditional), new(scale, conditional)]);
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

    /// <summary>Declares a tensor to differentiate with respect to.</summary>
    /// <param name="name">Unique name.</param>
    /// <param name="input">The tensor that the predictor reads, not a copy of it; a leaf of floating dtype.</param>
    /// <exception cref="ArgumentException">The name is taken or the tensor cannot carry a gradient.</exception>
    public NoiseField With(string name, Tensor input)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        ArgumentNullException.ThrowIfNull(input);
        if (Inputs.Any(i => i.Name == name))
            throw new ArgumentException($"An input named '{name}' is already declared. Give each input its own name.", nameof(name));
        if (!input.is_leaf)
            throw new ArgumentException($"Input '{name}' is the result of a computation. Declare a detached leaf that the predictor reads, and continue the chain rule from its gradient.", nameof(input));
        if (!input.is_floating_point())
            throw new ArgumentException($"Input '{name}' has dtype {input.dtype}; only floating-point tensors have gradients.", nameof(input));
        return this with { Inputs = Inputs.Add(new(name, input)) };
    }

    /// <summary>Declares all parameters of a network, each named <c>prefix.path</c>.</summary>
    /// <param name="prefix">Put before each parameter's path, such as "unet".</param>
    /// <param name="network">Network that the predictor calls.</param>
    public NoiseField With(string prefix, nn.Module network)
    {
        ArgumentNullException.ThrowIfNull(network);
        return network.named_parameters().Aggregate(Knowing(prefix, network), (f, p) => f.With($"{prefix}.{p.name}", p.parameter));
    }

    /// <summary>Holds a network's parameters constant, except those declared: their gradients are not wanted.</summary>
    /// <param name="network">Network that the predictor calls.</param>
    public NoiseField Freeze(nn.Module network)
    {
        ArgumentNullException.ThrowIfNull(network);
        return this with { Frozen = Frozen.AddRange(network.parameters()) };
    }

    /// <summary>Makes a network known, so that the error about an undeclared input can name its parameters.</summary>
    /// <param name="prefix">Put before each parameter's path.</param>
    /// <param name="network">Network that the predictor calls.</param>
    public NoiseField Knowing(string prefix, nn.Module network)
    {
        ArgumentNullException.ThrowIfNull(network);
        return this with { Known = Known.Add((prefix, network)) };
    }

    /// <summary>Prediction at a point. Differentiable where grad mode is on.</summary>
    /// <param name="x">Noisy input.</param>
    /// <param name="at">Time and noise level.</param>
    /// <param name="wanted">What to express the prediction as. Default: the noise eps.</param>
    /// <returns>The prediction, of x's shape and dtype, in the current dispose scope.</returns>
    /// <exception cref="InvalidOperationException">At this level the network's prediction does not determine the wanted one.</exception>
    public Tensor Evaluate(Tensor x, GridPoint at, Prediction wanted = Prediction.Epsilon)
    {
        Tensor? sum = null;
        foreach (var term in Terms)
        {
            var eps = Evaluate(term.Predict, x, at, wanted);
            using var weight = term.Weight.ToScalar();
            sum = sum is null ? (term.Weight == 1 ? eps : eps.mul(weight)) : sum.add(eps, weight);
        }

        return sum!;
    }

    /// <summary>Prediction of one predictor alone.</summary>
    internal Tensor Evaluate(NoisePredictor predict, Tensor x, GridPoint at, Prediction wanted = Prediction.Epsilon)
    {
        var output = predict(x, at.Time);
        if (!output.shape.AsSpan().SequenceEqual(x.shape))
            throw new InvalidOperationException($"The noise predictor returned shape [{string.Join(", ", output.shape)}] for an input of shape [{string.Join(", ", x.shape)}]; they must be equal.");
        if (output.dtype != x.dtype)
            output = output.to_type(x.dtype);
        return Convert(output, x, at.Level, wanted);
    }

    /// <summary>Names of parameters that require grad but were not declared, as far as networks are known.</summary>
    internal IReadOnlyList<string> Undeclared()
    {
        var declared = Inputs.Select(i => i.Value.Handle).Concat(Frozen.Select(t => t.Handle)).ToHashSet();
        return [.. Known.SelectMany(k => k.Network.named_parameters().Where(p => p.parameter.requires_grad && !declared.Contains(p.parameter.Handle)).Select(p => $"{k.Prefix}.{p.name}"))];
    }

    // Linear in x and the output with weights that suit a sum of predictors: they are affine with the x-parts equal, and guidance weights sum to one.
    private Tensor Convert(Tensor output, Tensor x, NoiseLevel level, Prediction wanted)
    {
        var (ofX, ofOutput) = Prediction.To(wanted, level);
        if (ofX == 0 && ofOutput == 1)
            return output;
        using Scalar wx = ofX.ToScalar(), wo = ofOutput.ToScalar();
        return ofX == 0 ? output.mul(wo) : x.mul(wx).add_(output, wo);
    }
}

/// <summary>A predictor and its weight in a field's sum.</summary>
internal readonly record struct WeightedPredictor(double Weight, NoisePredictor Predict);
