using AdjointDpm.Models.Classifiers;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>How unlikely a classifier finds the wanted classes: −log p(label | sample), in nats.</summary>
public sealed class CrossEntropyLoss : SampleLoss, IDisposable
{
    private readonly ImageClassifier _classifier;
    private readonly ClassLabels _labels;

    /// <summary>A loss that asks for classes.</summary>
    /// <param name="classifier">The judge; not owned. Its weights are not meant to require gradients.</param>
    /// <param name="labels">Wanted class of each sample, or one class for all.</param>
    /// <exception cref="ArgumentException">No labels, or one that the classifier does not have.</exception>
    public CrossEntropyLoss(ImageClassifier classifier, params ReadOnlySpan<long> labels) => (_classifier, _labels) = (classifier, new(classifier, labels));

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">There are neither as many labels as samples nor one for all.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var labels = _labels.For(samples);
        var logits = _classifier.Logits(samples.to(_classifier.Dtype()));
        return nn.functional.cross_entropy(logits, labels, reduction: nn.Reduction.None).MoveToOuterDisposeScope();
    }

    /// <summary>Frees the labels.</summary>
    public void Dispose() => _labels.Dispose();
}
