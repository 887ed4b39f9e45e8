using AdjointDpm.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>How a difference of neighbouring pixels counts.</summary>
public enum VariationKind
{
    /// <summary>|d|, the anisotropic total variation: keeps edges, takes specks away. Its gradient jumps where neighbours are equal, and is 0 there.</summary>
    Absolute,

    /// <summary>d²: smooth, and takes edges away too.</summary>
    Squared,
}

/// <summary>How restless a sample is: the sum of |x_i − x_j| or (x_i − x_j)² over pairs of neighbours, horizontal and vertical, over the number of values C·H·W. In units of the samples, or their square.</summary>
/// <remarks>Rudin, Osher and Fatemi (1992), anisotropic; squared: Mahendran and Vedaldi (2015) with β = 2. Nothing is wrapped around at the border.</remarks>
/// <param name="kind">How a difference counts.</param>
public sealed class TotalVariationLoss(VariationKind kind) : SampleLoss
{
    /// <inheritdoc/>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        Scalar scale = 1.0 / samples.shape.AsSpan(1).ToArray().Aggregate((a, b) => a * b);
        var sum = Along(samples, 2).Plus(Along(samples, 3)).mul(scale).MoveToOuterDisposeScope();
        GC.KeepAlive(scale);
        return sum;
    }

    private Tensor Along(Tensor x, int axis)
    {
        var pairs = x.shape[axis] - 1;
        var step = x.narrow(axis, 1, pairs).sub(x.narrow(axis, 0, pairs));
        return (kind == VariationKind.Absolute ? step.abs() : step.Squared()).sum([1, 2, 3]);
    }
}
