using System.Numerics;
using System.Numerics.Tensors;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Trials;

/// <summary>Moves parameters against a gradient. Elementwise fp32 in a fixed order of operations: equal inputs, equal bits.</summary>
internal abstract class ParameterOptimizer
{
    private protected ParameterOptimizer()
    {
    }

    /// <summary>Numbers of state per parameter.</summary>
    public abstract int StatePerParameter { get; }

    /// <param name="step">Number of this step, from 1.</param>
    /// <param name="parameters">Changed in place.</param>
    /// <param name="gradient">May be overwritten.</param>
    /// <param name="state">Zeros before the first step; changed in place.</param>
    public abstract void Step(int step, Span<float> parameters, Span<float> gradient, Span<float> state);

    /// <summary>The optimiser of a trial.</summary>
    public static ParameterOptimizer Of(ExperimentSpec spec) => spec.Train.Target == TrainTarget.Noise ? new NoiseOptimizer(spec) : Of(spec.Optimizer);

    public static ParameterOptimizer Of(OptimizerSpec spec) => spec.Name switch
    {
        OptimizerName.AdamW => new AdamWOptimizer(spec.LearningRate, spec.Beta1, spec.Beta2, spec.Epsilon, spec.WeightDecay),
        OptimizerName.Sgd => new SgdOptimizer(spec.LearningRate, spec.WeightDecay),
        _ => throw new ArgumentOutOfRangeException(nameof(spec), spec.Name, "Unknown optimiser."),
    };
}

/// <summary>Adam with decoupled weight decay, in the order of operations of torch.optim.AdamW.</summary>
/// <remarks>Loshchilov and Hutter (2019), algorithm 2. Bias corrections are computed in double.</remarks>
internal sealed class AdamWOptimizer(double learningRate, double beta1, double beta2, double epsilon, double weightDecay) : ParameterOptimizer
{
    public override int StatePerParameter => 2;

    public override void Step(int step, Span<float> parameters, Span<float> gradient, Span<float> state)
    {
        var n = parameters.Length;
        Lengths.Require(n, gradient.Length, state.Length, StatePerParameter);
        var m = state[..n];
        var v = state[n..];
        var stepSize = (float)(learningRate / (1.0 - Math.Pow(beta1, step)));
        var rootOfCorrection = (float)Math.Sqrt(1.0 - Math.Pow(beta2, step));
        var (b1, b2, oneMinusB1, oneMinusB2) = ((float)beta1, (float)beta2, (float)(1.0 - beta1), (float)(1.0 - beta2));
        var (eps, keep) = ((float)epsilon, (float)(1.0 - learningRate * weightDecay));
        var i = 0;
        // The same operations on several numbers at once, each rounded as on one.
        for (; i <= n - Vector<float>.Count; i += Vector<float>.Count)
        {
            var g = new Vector<float>(gradient[i..]);
            var mi = new Vector<float>(m[i..]) * b1 + g * oneMinusB1;
            var vi = new Vector<float>(v[i..]) * b2 + g * g * oneMinusB2;
            mi.CopyTo(m[i..]);
            vi.CopyTo(v[i..]);
            (new Vector<float>(parameters[i..]) * keep - stepSize * mi / (Vector.SquareRoot(vi) / new Vector<float>(rootOfCorrection) + new Vector<float>(eps))).CopyTo(parameters[i..]);
        }
        for (; i < n; i++)
        {
            var g = gradient[i];
            var mi = m[i] * b1 + g * oneMinusB1;
            var vi = v[i] * b2 + g * g * oneMinusB2;
            (m[i], v[i]) = (mi, vi);
            parameters[i] = parameters[i] * keep - stepSize * mi / (MathF.Sqrt(vi) / rootOfCorrection + eps);
        }
    }
}

/// <summary>Gradient descent with decoupled weight decay.</summary>
internal sealed class SgdOptimizer(double learningRate, double weightDecay) : ParameterOptimizer
{
    public override int StatePerParameter => 0;

    public override void Step(int step, Span<float> parameters, Span<float> gradient, Span<float> state)
    {
        Lengths.Require(parameters.Length, gradient.Length, state.Length, StatePerParameter);
        var (rate, keep) = ((float)learningRate, (float)(1.0 - learningRate * weightDecay));
        for (var i = 0; i < parameters.Length; i++)
            parameters[i] = parameters[i] * keep - rate * gradient[i];
    }
}

/// <summary>The length of a gradient, and its limit.</summary>
internal static class GradientNorm
{
    /// <summary>L2 norm, accumulated in double.</summary>
    public static double L2(ReadOnlySpan<float> gradient) => Math.Sqrt(SumOfSquares(gradient, 0));

    /// <summary>Goes on with the sum of squares where the range before this one ended: the same additions in the same order as over all at once.</summary>
    public static double SumOfSquares(ReadOnlySpan<float> gradient, double before)
    {
        foreach (var g in gradient)
            before += (double)g * g;
        return before;
    }

    /// <summary>Scales the gradient down to <paramref name="maxNorm"/> when it is longer.</summary>
    public static void Clip(Span<float> gradient, double norm, double? maxNorm)
    {
        if (maxNorm is { } limit && norm > limit)
            TensorPrimitives.Multiply(gradient, (float)(limit / norm), gradient);
    }
}

internal static class Lengths
{
    public static void Require(WorkResult result, long parameterBytes)
    {
        if (result.Blob?.Length != parameterBytes)
            throw new WorkFailedException($"Step {result.Token.Step + 1}, shard {result.Token.Shard}: the gradient has {result.Blob?.Length ?? 0} bytes, but the trained parameters have {parameterBytes}.");
    }

    public static void Require(int parameters, int gradient, int state, int perParameter)
    {
        if (gradient != parameters || state != parameters * perParameter)
            throw new ArgumentException($"{parameters} parameters need a gradient of {parameters} and a state of {parameters * perParameter} numbers, but got {gradient} and {state}.");
    }
}
