using AdjointDpm.Models.Classifiers;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>A classifier's log-probability as an audit's loss, in nats: −log p(label | sample) to be taken for the class, +log p(label | sample) to be no longer taken for it.</summary>
/// <remarks>
/// Targeted, this is <see cref="CrossEntropyLoss"/>. Untargeted it has no lower bound: once p is small it still pulls, and a sample that fools the
/// classifier long since can outweigh the others; <see cref="MarginLoss"/> stops there. Madry et al. (2018) maximise the same quantity.
/// </remarks>
public sealed class LogProbabilityLoss : SampleLoss, IDisposable
{
    private readonly ImageClassifier _classifier;
    private readonly AuditGoal _goal;
    private readonly ClassLabels _labels;

    /// <summary>A loss for or against classes.</summary>
    /// <param name="classifier">The classifier under audit; not owned. Its weights are not meant to require gradients.</param>
    /// <param name="goal">Towards the labels or away from them.</param>
    /// <param name="labels">Class of each sample, or one class for all.</param>
    /// <exception cref="ArgumentException">No labels, or one that the classifier does not have.</exception>
    public LogProbabilityLoss(ImageClassifier classifier, AuditGoal goal, params ReadOnlySpan<long> labels) => (_classifier, _goal, _labels) = (classifier, goal, new(classifier, labels));

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">There are neither as many labels as samples nor one for all.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var labels = _labels.For(samples);
        var surprise = nn.functional.cross_entropy(_classifier.Logits(samples.to(_classifier.Dtype())), labels, reduction: nn.Reduction.None);
        return (_goal == AuditGoal.Targeted ? surprise : surprise.neg()).MoveToOuterDisposeScope();
    }

    /// <summary>Frees the labels.</summary>
    public void Dispose() => _labels.Dispose();
}
