using AdjointDpm.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Samplers;

/// <summary>States that are single tensors.</summary>
internal sealed class TensorSpace : StateSpace<Tensor>
{
    public override Tensor Combine(Tensor y, ReadOnlySpan<double> weights, ReadOnlySpan<Tensor> vectors)
    {
        var sum = default(Sum);
        sum.Add(y, 1);
        for (var i = 0; i < weights.Length; i++)
            sum.Add(vectors[i], weights[i]);
        return sum.Take();
    }

    public override double Norm(ReadOnlySpan<double> weights, ReadOnlySpan<Tensor> vectors, Tensor before, Tensor after, StepControl control)
    {
        using var scope = NewDisposeScope();
        Tally.Reads++;
        return ScaledNorm(weights, vectors, before, after, control).Number() / Math.Sqrt(before.numel());
    }

    public override void Free(Tensor value) => value.Dispose();

    /// <summary>Euclidean norm of a weighted sum in units of the tolerance, as a tensor.</summary>
    public static Tensor ScaledNorm(ReadOnlySpan<double> weights, ReadOnlySpan<Tensor> vectors, Tensor before, Tensor after, StepControl control)
    {
        using Scalar relative = control.Relative.ToScalar(), absolute = control.Absolute.ToScalar();
        var scale = before.abs();
        Tally.Operations += 5;
        if (!ReferenceEquals(before, after))
        {
            scale = scale.maximum(after.abs());
            Tally.Operations += 2;
        }

        scale = scale.mul_(relative).add_(absolute, Rooted.One);
        var sum = default(Sum);
        for (var i = 0; i < weights.Length; i++)
            sum.Add(vectors[i], weights[i]);
        return sum.Take().div(scale).norm();
    }
}
