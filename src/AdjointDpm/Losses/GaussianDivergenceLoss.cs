using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>Divergence from what the frozen model makes of the same noise, in nats: KL(N(x, s²I) ‖ N(x_frozen, s²I)) = ‖x − x_frozen‖² / (2 s²).</summary>
/// <remarks>
/// The closed form of two Gaussians of one covariance. It is exact where both models' last step adds noise of deviation s and x is its mean, as
/// in the regularisers of DPOK (Fan et al. 2023, whose bound sums it over the steps) and DDPO; for a sampler without noise the samples are points, no divergence
/// between them is finite, and s is a scale that you choose. <see cref="PixelDistanceLoss"/> is the same up to the factor C·H·W / (2 s²).
/// </remarks>
public sealed class GaussianDivergenceLoss : SampleLoss, IDisposable
{
    private readonly PixelDistanceLoss _distance;
    private readonly double _factor;

    /// <summary>A divergence from references.</summary>
    /// <param name="references">The frozen model's samples, one for each sample, shape [B, C, H, W], or one for all, shape [1, C, H, W]; copied.</param>
    /// <param name="deviation">Standard deviation s of both, in units of the samples, above 0.</param>
    /// <exception cref="ArgumentException">The deviation is not above 0 and finite.</exception>
    public GaussianDivergenceLoss(Tensor references, double deviation)
    {
        if (!(deviation > 0 && double.IsFinite(deviation)))
            throw new ArgumentException($"The deviation is {deviation}; give a number above 0, in units of the samples.", nameof(deviation));
        _distance = new(references);
        _factor = references.shape.AsSpan(1).ToArray().Aggregate(1L, (a, b) => a * b) / (2 * deviation * deviation);
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The samples have another shape than the references.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        Scalar factor = _factor;
        var nats = _distance.PerSample(samples).mul(factor).MoveToOuterDisposeScope();
        GC.KeepAlive(factor);
        return nats;
    }

    /// <summary>Frees the references.</summary>
    public void Dispose() => _distance.Dispose();
}
