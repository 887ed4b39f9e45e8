using AdjointDpm.Models.Classifiers;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>How unlikely a classifier finds the wanted classes: −log p(label | sample), in nats.</summary>
public sealed class CrossEntropyLoss : SampleLoss, IDisposable
{
    private readonly ImageClassifier _classifier;
    private readonly Tensor _labels;

    /// <summary>A loss that asks for classes.</summary>
    /// <param name="classifier">The judge; not owned. Its weights are not meant to require gradients.</param>
    /// <param name="labels">Wanted class of each sample, or one class for all.</param>
    /// <exception cref="ArgumentException">No labels, or one that the classifier does not have.</exception>
    public CrossEntropyLoss(ImageClassifier classifier, params ReadOnlySpan<long> labels)
    {
        if (labels.IsEmpty)
            throw new ArgumentException("No labels. Give one for each sample, or one for all.", nameof(labels));
        foreach (var label in labels)
        {
            if (label < 0 || label >= classifier.Classes)
                throw new ArgumentException($"Label {label} is not one of the classifier's classes 0..{classifier.Classes - 1}.", nameof(labels));
        }

        _classifier = classifier;
        _labels = tensor(labels.ToArray()).DetachFromDisposeScope();
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">There are neither as many labels as samples nor one for all.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        var batch = samples.shape[0];
        if (_labels.shape[0] != 1 && _labels.shape[0] != batch)
            throw new ArgumentException($"{batch} samples but {_labels.shape[0]} labels. Give one for each sample, or one for all.", nameof(samples));
        using var scope = NewDisposeScope();
        var labels = _labels.to(samples.device).expand(batch);
        var logits = _classifier.Logits(samples.to(_classifier.Dtype()));
        return nn.functional.cross_entropy(logits, labels, reduction: nn.Reduction.None).MoveToOuterDisposeScope();
    }

    /// <summary>Frees the labels.</summary>
    public void Dispose() => _labels.Dispose();
}
