using AdjointDpm.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>Mean squared difference of pixels to a target: a given picture, or the sample that a frozen copy of the model makes from the same noise. In squared units of the samples, 0 to 4 for values in [-1, 1].</summary>
public sealed class PixelDistanceLoss : SampleLoss, IDisposable
{
    private readonly Tensor _target;

    /// <summary>A distance to a target.</summary>
    /// <param name="target">One target for each sample, shape [B, C, H, W], or one for all, shape [1, C, H, W]; copied, and taken to the dtype and device of the samples.</param>
    public PixelDistanceLoss(Tensor target) => _target = target.detach().clone().DetachFromDisposeScope();

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The samples have another shape than the target.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        var (shape, wanted) = (samples.shape, _target.shape);
        if (shape.Length != wanted.Length || !shape.AsSpan(1).SequenceEqual(wanted.AsSpan(1)) || (wanted[0] != 1 && wanted[0] != shape[0]))
            throw new ArgumentException($"Samples of shape [{string.Join(", ", shape)}] do not fit a target of shape [{string.Join(", ", wanted)}].", nameof(samples));
        using var scope = NewDisposeScope();
        var target = _target.to(samples.dtype, samples.device);
        return samples.sub(target).Squared().flatten(1).mean([1]).MoveToOuterDisposeScope();
    }

    /// <summary>Frees the target.</summary>
    public void Dispose() => _target.Dispose();
}
