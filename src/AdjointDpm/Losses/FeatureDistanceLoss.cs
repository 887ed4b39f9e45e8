using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>How far the content of a sample is from a reference's: Σ_l w_l · mean((F_l(x) − F_l(ref))²) over chosen layers of a classifier, in squared units of its activations.</summary>
/// <remarks>The content loss of Gatys, Ecker and Bethge (2016), divided by the number of activations as Johnson, Alahi and Fei-Fei (2016) do, so that large layers do not outweigh small ones.</remarks>
public sealed class FeatureDistanceLoss : SampleLoss, IDisposable
{
    private readonly FeatureLayers _layers;

    /// <summary>A loss that asks for the content of references.</summary>
    /// <param name="features">Network whose layers describe the content; not owned.</param>
    /// <param name="references">One reference for each sample, shape [B, C, H, W] in [-1, 1], or one for all, shape [1, C, H, W]; of the samples' size.</param>
    /// <param name="weights">Weight of each layer that takes part. Default: one for every layer of the network.</param>
    /// <exception cref="ArgumentException">A layer is unknown.</exception>
    public FeatureDistanceLoss(ImageClassifier features, Tensor references, IReadOnlyDictionary<string, double>? weights = null) =>
        _layers = new(features, references, weights, (_, maps) => maps);

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The samples have another shape than the references.</exception>
    public override Tensor PerSample(Tensor samples) => _layers.Distance(samples, (maps, reference) => maps.sub(reference).Squared().mean([1, 2, 3]));

    /// <summary>Frees the references' activations.</summary>
    public void Dispose() => _layers.Dispose();
}
