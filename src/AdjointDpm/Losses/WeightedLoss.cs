using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>A weighted sum of losses, such as a style and the distance to what the model made before.</summary>
public sealed class WeightedLoss : SampleLoss
{
    private readonly (Scalar Weight, SampleLoss Loss)[] _terms;

    /// <summary>A sum of losses, in whatever units the weights give.</summary>
    /// <param name="terms">Losses with their weights; not owned.</param>
    /// <exception cref="ArgumentException">There are no terms.</exception>
    public WeightedLoss(params ReadOnlySpan<(double Weight, SampleLoss Loss)> terms)
    {
        if (terms.IsEmpty)
            throw new ArgumentException("A sum of no losses has no gradient. Give at least one.", nameof(terms));
        _terms = Array.ConvertAll(terms.ToArray(), t => ((Scalar)t.Weight, t.Loss));
    }

    /// <inheritdoc/>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        Tensor? total = null;
        foreach (var (weight, loss) in _terms)
        {
            var each = loss.PerSample(samples);
            total = total is null ? each.mul(weight) : total.add(each, weight);
        }

        GC.KeepAlive(this);
        return total!.MoveToOuterDisposeScope();
    }
}
