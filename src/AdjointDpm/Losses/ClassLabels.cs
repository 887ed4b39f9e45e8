using AdjointDpm.Models.Classifiers;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>Classes that a loss speaks of: one for each sample, or one for all.</summary>
internal sealed class ClassLabels : IDisposable
{
    private readonly Tensor _labels;

    public ClassLabels(ImageClassifier classifier, ReadOnlySpan<long> labels)
    {
        if (labels.IsEmpty)
            throw new ArgumentException("No labels. Give one for each sample, or one for all.", nameof(labels));
        foreach (var label in labels)
        {
            if (label < 0 || label >= classifier.Classes)
                throw new ArgumentException($"Label {label} is not one of the classifier's classes 0..{classifier.Classes - 1}.", nameof(labels));
        }

        _labels = tensor(labels.ToArray()).DetachFromDisposeScope();
    }

    /// <summary>Labels [B] on the samples' device, in the current dispose scope.</summary>
    public Tensor For(Tensor samples)
    {
        var batch = samples.shape[0];
        if (_labels.shape[0] != 1 && _labels.shape[0] != batch)
            throw new ArgumentException($"{batch} samples but {_labels.shape[0]} labels. Give one for each sample, or one for all.", nameof(samples));
        return _labels.to(samples.device).expand(batch);
    }

    public void Dispose() => _labels.Dispose();
}
