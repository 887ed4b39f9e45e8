using System.Collections.Immutable;
using System.IO.Enumeration;
using AdjointDpm.Models;
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

/// <summary>A network's prediction that may differ from step to step, as with conditioning, guidance or a control of its own for each.</summary>
/// <param name="x">Noisy input, as for <see cref="NoisePredictor"/>.</param>
/// <param name="time">Time in the schedule's unit.</param>
/// <param name="step">Step of the sampler that evaluates, from 0 at the noise; the same for all evaluations of a step.</param>
/// <returns>Prediction, of x's shape, in any floating dtype.</returns>
public delegate Tensor SteppedPredictor(Tensor x, double time, int step);

/// <summary>A tensor to differentiate with respect to, and the name by which results and errors call it.</summary>
/// <param name="Name">Unique name, such as "conditioning" or "unet.conv_in.weight".</param>
/// <param name="Value">A leaf tensor that the predictor reads.</param>
public readonly record struct DeclaredInput(string Name, Tensor Value);

/// <summary>A noise predictor together with everything that may receive a gradient through it.</summary>
/// <remarks>
/// <para>Inputs are declared: <see cref="With(string, Tensor)"/> names a tensor to differentiate, <see cref="Freeze"/> a network to hold constant. A captured tensor that requires grad and is neither is an error when gradients are asked for: never a silent zero.</para>
/// <para>Holds tensors but owns none. During <c>Sampling.Differentiate</c> the declared tensors' requires_grad and grad are borrowed and put back, so one network must not be differentiated by two threads at once.</para>
/// </remarks>
public sealed partial record NoiseField
{
    private NoiseField(ImmutableArray<FieldTerm> terms) => Terms = terms;

    /// <summary>What the predictors predict. Default: <see cref="Prediction.Epsilon"/>.</summary>
    public Prediction Prediction { get; init; } = Prediction.Epsilon;

    /// <summary>Declared inputs, in the order of declaration: the order of gradients in results.</summary>
    public ImmutableArray<DeclaredInput> Inputs { get; private init; } = [];

    /// <summary>Tensors held constant although they may require grad elsewhere.</summary>
    internal ImmutableArray<Tensor> Frozen { get; private init; } = [];

    /// <summary>Whether the predictor is told its step.</summary>
    internal bool DiffersByStep { get; private init; }

    /// <summary>Whether a classifier guides. In grad mode it is evaluated once more, to see what it depends on.</summary>
    internal bool HasClassifier { get; private init; }

    /// <summary>Parts whose sum is the prediction; each is differentiated on its own, so that one graph is held at a time.</summary>
    internal ImmutableArray<FieldTerm> Terms { get; private init; }

    /// <summary>Networks that predictors call, by the prefix of their parameters' names, as far as they were made known.</summary>
    internal IEnumerable<(string Prefix, nn.Module Network)> Networks => Known;

    private ImmutableArray<(string Prefix, nn.Module Network)> Known { get; init; } = [];

    /// <summary>A field of one predictor.</summary>
    /// <param name="predict">Predicts what <see cref="Prediction"/> says: eps unless set otherwise.</param>
    public static NoiseField From(NoisePredictor predict)
    {
        ArgumentNullException.ThrowIfNull(predict);
        return From((x, time, _) => predict(x, time)) with { DiffersByStep = false };
    }

    /// <summary>A field of one predictor that may differ from step to step.</summary>
    /// <param name="predict">As for <see cref="From(NoisePredictor)"/>, and told its step.</param>
    /// <remarks>A control added to the noise is <c>(x, t, n) =&gt; net(x, t).add(u[n])</c> with the u declared by <see cref="With(string, IReadOnlyList{Tensor})"/>. Steps of an adaptive sampler are counted as they are accepted.</remarks>
    public static NoiseField From(SteppedPredictor predict)
    {
        ArgumentNullException.ThrowIfNull(predict);
        return new([(field, x, at, step, wanted) => field.Predict(predict, x, at, step, wanted)]) { DiffersByStep = true };
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

    /// <summary>Declares one tensor for each step, named <c>name[0]</c>, <c>name[1]</c>, …: conditioning, controls or guidance scales that a <see cref="SteppedPredictor"/> reads.</summary>
    /// <param name="name">Name of all.</param>
    /// <param name="bySteps">Leaf tensors of floating dtype, by step.</param>
    /// <exception cref="ArgumentException">A name is taken or a tensor cannot carry a gradient.</exception>
    public NoiseField With(string name, IReadOnlyList<Tensor> bySteps)
    {
        ArgumentNullException.ThrowIfNull(bySteps);
        return Enumerable.Range(0, bySteps.Count).Aggregate(this, (f, n) => f.With($"{name}[{n}]", bySteps[n]));
    }

    /// <summary>Declares all parameters of a network, each named <c>prefix.path</c>.</summary>
    /// <param name="prefix">Put before each parameter's path, such as "unet".</param>
    /// <param name="network">Network that the predictor calls.</param>
    /// <exception cref="ArgumentException">A name is taken.</exception>
    public NoiseField With(string prefix, nn.Module network)
    {
        ArgumentNullException.ThrowIfNull(network);
        return network.named_parameters().Aggregate(Knowing(prefix, network), (f, p) => f.With($"{prefix}.{p.name}", p.parameter));
    }

    /// <summary>Declares the parameters of a network whose names match a pattern, and holds its others constant.</summary>
    /// <param name="prefix">Put before each parameter's path, such as "unet".</param>
    /// <param name="network">Network that the predictor calls.</param>
    /// <param name="pattern">Matched against <c>prefix.path</c>; * stands for any characters, as in "unet.*.attn2.*".</param>
    /// <exception cref="ArgumentException">No parameter matches.</exception>
    public NoiseField With(string prefix, nn.Module network, string pattern)
    {
        ArgumentNullException.ThrowIfNull(network);
        ArgumentException.ThrowIfNullOrEmpty(pattern);
        var chosen = network.named_parameters().Where(p => FileSystemName.MatchesSimpleExpression(pattern, $"{prefix}.{p.name}", ignoreCase: false)).ToList();
        return chosen.Count == 0
            ? throw new ArgumentException($"No parameter of '{prefix}' matches '{pattern}'. They are named like '{prefix}.{network.named_parameters().Select(p => p.name).FirstOrDefault()}'.", nameof(pattern))
            : chosen.Aggregate(Knowing(prefix, network).Freeze(network), (f, p) => f.With($"{prefix}.{p.name}", p.parameter));
    }

    /// <summary>Holds a network's parameters constant, except those declared: their gradients are not wanted.</summary>
    /// <param name="network">Network that the predictor calls.</param>
    public NoiseField Freeze(nn.Module network)
    {
        ArgumentNullException.ThrowIfNull(network);
        return this with { Frozen = Frozen.AddRange(network.parameters()) };
    }

    /// <summary>The same field with its inputs held constant.</summary>
    internal NoiseField Held() => this with { Inputs = [], Frozen = Frozen.AddRange(Inputs.Select(input => input.Value)) };

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
    /// <param name="step">Step that evaluates, for fields that differ from step to step. Default: the first.</param>
    /// <returns>The prediction, of x's shape and dtype, in the current dispose scope.</returns>
    /// <exception cref="InvalidOperationException">At this level the network's prediction does not determine the wanted one.</exception>
    public Tensor Evaluate(Tensor x, GridPoint at, Prediction wanted = Prediction.Epsilon, int step = 0)
    {
        Tensor? sum = null;
        foreach (var term in Terms)
        {
            var part = term(this, x, at, step, wanted);
            sum = sum is null ? part : sum.Plus(part);
        }

        return sum!;
    }

    // One predictor's prediction as what is wanted.
    private Tensor Predict(SteppedPredictor predict, Tensor x, GridPoint at, int step, Prediction wanted)
    {
        var output = predict(x, at.Time, step);
        if (!output.shape.AsSpan().SequenceEqual(x.shape))
            throw new InvalidOperationException($"The noise predictor returned shape [{string.Join(", ", output.shape)}] for an input of shape [{string.Join(", ", x.shape)}]; they must be equal.");
        if (output.dtype != x.dtype)
            output = output.to_type(x.dtype);
        return Convert(output, x, at.Level, wanted);
    }

    /// <summary>Tensors that require grad but were neither declared nor frozen, by name: those of known networks, then all others that the predictors hold. They need not matter: lambdas of one method hold its captured variables together.</summary>
    internal IReadOnlyList<(string Name, Tensor Value)> Undeclared()
    {
        var declared = Inputs.Select(i => i.Value.Handle).Concat(Frozen.Select(t => t.Handle)).ToHashSet();
        var known = Known.SelectMany(k => k.Network.named_parameters().Select(p => ($"{k.Prefix}.{p.name}", (Tensor)p.parameter)));
        return [.. known.Concat(CapturedTensors.Of(Terms)).Where(t => t.Item2.requires_grad && declared.Add(t.Item2.Handle))];
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

/// <summary>One part of a field's sum, weight included. Differentiable where grad mode is on.</summary>
internal delegate Tensor FieldTerm(NoiseField field, Tensor x, GridPoint at, int step, Prediction wanted);
