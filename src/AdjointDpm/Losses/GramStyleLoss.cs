using AdjointDpm.Models;
using AdjointDpm.Models.Classifiers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>How far the texture of a sample is from that of reference images: distances between Gram matrices of a classifier's features.</summary>
/// <remarks>
/// Gatys, Ecker and Bethge (2016). A layer's Gram matrix is F Fᵀ / (C h w); its term is ‖G − G_ref‖² / ‖G_ref‖² in the Frobenius
/// norm, so that layers weigh alike before their weights, and 1 is the distance of a blank.
/// </remarks>
public sealed class GramStyleLoss : SampleLoss, IDisposable
{
    private readonly ImageClassifier _features;
    private readonly List<(string Layer, Tensor Reference, Scalar Factor)> _terms = [];

    /// <summary>A loss that asks for a texture; dimensionless.</summary>
    /// <param name="features">Network whose layers describe the texture; not owned.</param>
    /// <param name="references">Images of the style, shape [N, C, H, W] in [-1, 1]; their Gram matrices are averaged. Another size than the samples' is fine.</param>
    /// <param name="weights">Weight of each layer that takes part. Default: one for every layer of the network.</param>
    /// <exception cref="ArgumentException">There are no layers, one is unknown, or the references leave it without any activation.</exception>
    public GramStyleLoss(ImageClassifier features, Tensor references, IReadOnlyDictionary<string, double>? weights = null)
    {
        _features = features;
        weights ??= features.Layers.ToDictionary(layer => layer, _ => 1.0);
        if (weights.Count == 0)
            throw new ArgumentException(features.Layers.Count == 0 ? "None of the network's layers makes maps: there is no texture to compare. Use one with convolutions." : $"No layers are chosen. The network's layers: {string.Join(", ", features.Layers)}.", nameof(weights));
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var maps = features.Features(references.to(features.Dtype()));
        foreach (var (layer, weight) in weights)
        {
            if (!maps.TryGetValue(layer, out var map))
                throw new ArgumentException($"Layer '{layer}' is not in the network. Its layers: {string.Join(", ", features.Layers)}.", nameof(weights));
            var reference = Gram(map).mean([0], keepdim: true);
            var size = reference.Squared().sum().Number();
            if (!(size > 0))
                throw new ArgumentException($"The reference images leave layer '{layer}' without any activation: nothing to compare with. Use other references or leave the layer out.", nameof(references));
            _terms.Add((layer, reference.DetachFromDisposeScope(), weight / size));
        }
    }

    /// <inheritdoc/>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var maps = _features.Features(samples.to(_features.Dtype()));
        Tensor? total = null;
        foreach (var (layer, reference, factor) in _terms)
        {
            var distance = Gram(maps[layer]).sub(reference).Squared().sum([1, 2]);
            total = total is null ? distance.mul(factor) : total.add(distance, factor);
        }

        GC.KeepAlive(this);
        return total!.MoveToOuterDisposeScope();
    }

    /// <summary>Frees the references' Gram matrices.</summary>
    public void Dispose()
    {
        foreach (var (_, reference, _) in _terms)
            reference.Dispose();
    }

    /// <summary>Gram matrices of feature maps: [B, C, h, w] to [B, C, C].</summary>
    internal static Tensor Gram(Tensor maps)
    {
        using var scope = NewDisposeScope();
        var flat = maps.flatten(2);
        Scalar scale = 1.0 / (flat.shape[1] * flat.shape[2]);
        var gram = flat.matmul(flat.transpose(1, 2)).mul(scale).MoveToOuterDisposeScope();
        GC.KeepAlive(scale);
        return gram;
    }
}
