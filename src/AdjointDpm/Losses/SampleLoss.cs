using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>A differentiable function of generated samples.</summary>
/// <remarks>
/// Samples have shape [B, C, H, W] and values in [-1, 1], as the sampler leaves them. Every sample's loss depends on that sample
/// alone, so the loss of a batch split into shards is the sum of the shards' sums over the number of all samples.
/// Derive from it for a loss of your own; <see cref="RewardCheck"/> tests whether it is fit.
/// </remarks>
public abstract class SampleLoss
{
    /// <summary>One loss for each sample.</summary>
    /// <param name="samples">Samples [B, C, H, W], float32 or float64; the loss is differentiable with respect to them.</param>
    /// <returns>Losses [B] of a floating dtype, in the current dispose scope, attached to the graph of the samples.</returns>
    public abstract Tensor PerSample(Tensor samples);

    /// <summary>Mean over the batch, a scalar: what a trial minimises when the batch is whole.</summary>
    /// <param name="samples">Samples [B, C, H, W].</param>
    public Tensor Mean(Tensor samples)
    {
        using var each = PerSample(samples);
        return each.mean();
    }

    /// <summary>Sum over the batch, a scalar: a shard's part.</summary>
    /// <param name="samples">Samples [B, C, H, W].</param>
    public Tensor Sum(Tensor samples)
    {
        using var each = PerSample(samples);
        return each.sum();
    }
}
