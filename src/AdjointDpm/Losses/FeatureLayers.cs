using AdjointDpm.Models.Classifiers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>Chosen feature layers of a classifier with their weights, and what reference images look like in them.</summary>
internal sealed class FeatureLayers : IDisposable
{
    private readonly ImageClassifier _features;
    private readonly Func<string, Tensor, Tensor> _look;
    private readonly List<(string Layer, Tensor Reference, Scalar Weight)> _terms = [];
    private readonly long[] _shape;

    /// <param name="features">Network; not owned.</param>
    /// <param name="references">Reference images, [1 or B, C, H, W].</param>
    /// <param name="weights">Weight by layer; null for one on every layer.</param>
    /// <param name="look">What is compared, made of a layer's name and maps; applied to references and samples alike.</param>
    public FeatureLayers(ImageClassifier features, Tensor references, IReadOnlyDictionary<string, double>? weights, Func<string, Tensor, Tensor> look)
    {
        (_features, _look, _shape) = (features, look, references.shape);
        weights ??= features.Layers.ToDictionary(layer => layer, _ => 1.0);
        if (weights.Count == 0)
            throw new ArgumentException($"No layers are chosen. The network's layers: {string.Join(", ", features.Layers)}.", nameof(weights));
        if (weights.Keys.FirstOrDefault(layer => !features.Layers.Contains(layer)) is { } unknown)
            throw new ArgumentException($"Layer '{unknown}' is not in the network. Its layers: {string.Join(", ", features.Layers)}.", nameof(weights));
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var maps = features.Features(references.to(features.Dtype()));
        foreach (var (layer, weight) in weights)
            _terms.Add((layer, look(layer, maps[layer]).clone().DetachFromDisposeScope(), weight));
    }

    /// <summary>The weighted sum, over the layers, of the distances between samples and references: [B].</summary>
    public Tensor Distance(Tensor samples, Func<Tensor, Tensor, Tensor> distance)
    {
        var shape = samples.shape;
        if (shape.Length != _shape.Length || !shape.AsSpan(1).SequenceEqual(_shape.AsSpan(1)) || (_shape[0] != 1 && _shape[0] != shape[0]))
            throw new ArgumentException($"Samples of shape [{string.Join(", ", shape)}] do not fit a reference of shape [{string.Join(", ", _shape)}].", nameof(samples));
        using var scope = NewDisposeScope();
        var maps = _features.Features(samples.to(_features.Dtype()));
        Tensor? total = null;
        foreach (var (layer, reference, weight) in _terms)
        {
            var each = distance(_look(layer, maps[layer]), reference);
            total = total is null ? each.mul(weight) : total.add(each, weight);
        }

        GC.KeepAlive(this);
        return total!.MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        foreach (var (_, reference, _) in _terms)
            reference.Dispose();
    }
}
