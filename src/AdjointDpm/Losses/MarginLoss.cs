using AdjointDpm.Models.Classifiers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>How far a classifier's decision is from the one looked for, in logits: max(z_other − z_label, −confidence) targeted, max(z_label − z_other, −confidence) untargeted, with z_other the largest logit of another class.</summary>
/// <remarks>Carlini and Wagner (2017), their f₆. Below zero the goal is reached; at −confidence the loss and its gradient stop, so that samples already through do not outweigh the others.</remarks>
public sealed class MarginLoss : SampleLoss, IDisposable
{
    private static readonly Scalar Never = double.NegativeInfinity;

    private readonly ImageClassifier _classifier;
    private readonly AuditGoal _goal;
    private readonly ClassLabels _labels;
    private readonly Tensor _classes;
    private readonly Scalar? _floor;

    /// <summary>A loss for or against classes.</summary>
    /// <param name="classifier">The classifier under audit; not owned. Its weights are not meant to require gradients.</param>
    /// <param name="goal">Towards the labels or away from them.</param>
    /// <param name="confidence">Margin, in logits, at which a sample is far enough through: 0 or more; infinity never stops.</param>
    /// <param name="labels">Class of each sample, or one class for all.</param>
    /// <exception cref="ArgumentException">No labels, one that the classifier does not have, a negative confidence, or a classifier with one class only.</exception>
    public MarginLoss(ImageClassifier classifier, AuditGoal goal, double confidence, params ReadOnlySpan<long> labels)
    {
        if (!(confidence >= 0))
            throw new ArgumentException($"The confidence is {confidence}; give 0 or more, in logits.", nameof(confidence));
        if (classifier.Classes < 2)
            throw new ArgumentException("The classifier has one class only: there is no other to be taken for.", nameof(classifier));
        (_classifier, _goal, _labels) = (classifier, goal, new(classifier, labels));
        _classes = tensor([.. Enumerable.Range(0, classifier.Classes).Select(i => (long)i)], [1, classifier.Classes]).DetachFromDisposeScope();
        _floor = double.IsPositiveInfinity(confidence) ? null : (Scalar)(-confidence);
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">There are neither as many labels as samples nor one for all.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var labels = _labels.For(samples).unsqueeze(1);
        var logits = _classifier.Logits(samples.to(_classifier.Dtype()));
        var own = logits.gather(1, labels).squeeze(1);
        var other = logits.masked_fill(_classes.to(logits.device).eq(labels), Never).amax([1]);
        var margin = _goal == AuditGoal.Targeted ? other.sub(own) : own.sub(other);
        var loss = _floor is null ? margin : margin.clamp_min(_floor);
        GC.KeepAlive(this);
        return loss.MoveToOuterDisposeScope();
    }

    /// <summary>Frees the labels.</summary>
    public void Dispose()
    {
        _labels.Dispose();
        _classes.Dispose();
    }
}
