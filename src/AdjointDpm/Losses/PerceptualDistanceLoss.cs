using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>A perceptual distance in the manner of LPIPS: features of unit length at every place, their squared differences summed over channels, averaged over places, summed over layers. Dimensionless.</summary>
/// <remarks>
/// <para>Zhang et al. (2018), equation 1: d = Σ_l mean_hw Σ_c w_lc (f̂_lc − f̂⁰_lc)², f̂ = f / √(Σ_c f² + 10⁻¹⁰). Without channel weights (w = 1) it is their uncalibrated
/// distance, where each layer gives 2 − 2 cos, from 0 to 4. Any classifier serves; with the weights of their linear heads it is calibrated for the network that these were fitted to.</para>
/// <para>The small number stands under the root, where it keeps the gradient finite at places where a layer is silent; the first releases of the lpips package add it behind the root, where it does not.</para>
/// </remarks>
public sealed class PerceptualDistanceLoss : SampleLoss, IDisposable
{
    private static readonly Scalar Small = 1e-10;

    private readonly FeatureLayers _layers;
    private readonly Dictionary<string, Tensor> _roots = [];

    /// <summary>A loss that asks for a look like the references'.</summary>
    /// <param name="features">Network whose layers are compared; not owned.</param>
    /// <param name="references">One reference for each sample, shape [B, C, H, W] in [-1, 1], or one for all, shape [1, C, H, W]; of the samples' size.</param>
    /// <param name="weights">Weight of each layer that takes part. Default: one for every layer of the network.</param>
    /// <param name="channels">Channel weights [C] by layer, 0 or more, such as LPIPS' linear heads. Default: one on every channel. Copied.</param>
    /// <exception cref="ArgumentException">A layer is unknown, or channel weights are negative or too few.</exception>
    public PerceptualDistanceLoss(ImageClassifier features, Tensor references, IReadOnlyDictionary<string, double>? weights = null, IReadOnlyDictionary<string, Tensor>? channels = null)
    {
        try
        {
            foreach (var (layer, row) in channels ?? new Dictionary<string, Tensor>())
                _roots[layer] = Root(features, layer, row);
            _layers = new(features, references, weights, Look);
        }
        catch
        {
            Free();
            throw;
        }
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">The samples have another shape than the references.</exception>
    public override Tensor PerSample(Tensor samples) => _layers.Distance(samples, (maps, reference) => maps.sub(reference).Squared().sum([1]).mean([1, 2]));

    /// <summary>Frees what is kept of the references.</summary>
    public void Dispose()
    {
        _layers.Dispose();
        Free();
    }

    private static Tensor Root(ImageClassifier features, string layer, Tensor row)
    {
        if (!features.Layers.Contains(layer))
            throw new ArgumentException($"Channel weights are for layer '{layer}', which is not in the network. Its layers: {string.Join(", ", features.Layers)}.", nameof(row));
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var values = row.detach().reshape(1, -1, 1, 1).to(features.Dtype(), features.parameters().First().device);
        if (!(values.min().to(ScalarType.Float64).Number() >= 0))
            throw new ArgumentException($"Channel weights of layer '{layer}' go below 0: that would be no distance.", nameof(row));
        return values.sqrt().DetachFromDisposeScope();
    }

    // √w times the feature of unit length: its squared difference is what the weight asks for.
    private Tensor Look(string layer, Tensor maps)
    {
        var unit = maps.div(maps.Squared().sum([1], keepdim: true).Plus(Small).sqrt());
        if (!_roots.TryGetValue(layer, out var root))
            return unit;
        return root.shape[1] == maps.shape[1]
            ? unit.mul(root)
            : throw new ArgumentException($"Layer '{layer}' has {maps.shape[1]} channels, but {root.shape[1]} channel weights are given.");
    }

    private void Free()
    {
        foreach (var root in _roots.Values)
            root.Dispose();
    }
}
