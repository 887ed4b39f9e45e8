using AdjointDpm.Grains.Specs;
using AdjointDpm.Losses;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>One batch as its losses see it.</summary>
internal sealed record LossBatch
{
    public required ExperimentSpec Spec { get; init; }

    public required LossNetworks Networks { get; init; }

    /// <summary>Dtype of states, losses and classifiers.</summary>
    public required ScalarType Dtype { get; init; }

    public required Device Device { get; init; }

    /// <summary>Class of each sample; empty for a model without classes.</summary>
    public required long[] Labels { get; init; }

    /// <summary>What each sample is asked to show, by number: with prompts, the prompt's.</summary>
    public required long[] Conditions { get; init; }

    /// <summary>Channels of the pictures.</summary>
    public required long Channels { get; init; }

    /// <summary>Makes pictures of samples, which is what losses look at.</summary>
    public required Func<Tensor, Tensor> Picture { get; init; }

    /// <summary>Samples of the untrained model from the same noise.</summary>
    public required Func<Tensor> Frozen { get; init; }

    /// <summary>Optimiser step, which places cutouts.</summary>
    public uint Step { get; init; }

    public CancellationToken Cancellation { get; init; }
}

/// <summary>The weighted losses of a spec for one batch, whole and part by part.</summary>
internal sealed class TrialLoss : IDisposable
{
    private readonly List<(string Name, double Weight, SampleLoss Loss, bool OfNoise)> _parts = [];
    private readonly WeightedLoss? _pictures;
    private readonly WeightedLoss? _noise;
    private readonly LossBatch _batch;
    private readonly List<IDisposable> _owned = [];

    public TrialLoss(LossBatch batch)
    {
        _batch = batch;
        var losses = batch.Spec.Losses;
        try
        {
            using var parts = new LossParts(batch);
            var names = HeldOutMetrics.NamesOf(losses);
            for (var i = 0; i < losses.Count; i++)
            {
                var loss = parts.Make(losses[i], i, out var owned);
                if (owned is not null)
                    _owned.Add(owned);
                _parts.Add((names[i], losses[i].Weight, loss, losses[i].Name == LossName.NoiseNorm));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
        _pictures = Sum(ofNoise: false);
        _noise = Sum(ofNoise: true);
    }

    /// <summary>Mean over the batch of the losses that look at pictures.</summary>
    public Tensor Mean(Tensor samples)
    {
        if (_pictures is null)
            throw new InvalidDataException("All losses are of x_T, so the samples do not matter. Add one that looks at them.");
        return _pictures.Mean(_batch.Picture(samples));
    }

    /// <summary>The weighted sum for each sample of the losses that look at pictures: [B].</summary>
    public Tensor PerSample(Tensor samples) => _pictures!.PerSample(_batch.Picture(samples));

    /// <summary>Gradient of the losses that look at x_T, of their sum over the batch; null when there are none.</summary>
    public Tensor? NoiseGradient(Tensor noise)
    {
        if (_noise is null)
            return null;
        using var scope = NewDisposeScope();
        using var on = enable_grad();
        var leaf = noise.detach().requires_grad_(true);
        _noise.Sum(leaf).backward();
        return leaf.grad!.MoveToOuterDisposeScope();
    }

    /// <summary>Sums over the samples: "loss", and each part before its weight. Added in double, in the order of the samples.</summary>
    /// <param name="samples">Samples.</param>
    /// <param name="noise">The x_T that they came from.</param>
    public Dictionary<string, double> Sums(Tensor samples, Tensor noise)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var pictures = _batch.Picture(samples);
        var sums = new Dictionary<string, double> { ["loss"] = 0 };
        // Each is asked once: what is far away takes its time. Weighted and added as the whole is, so that it has those bits.
        Tensor? ofPictures = null, ofNoise = null;
        foreach (var (name, weight, loss, isOfNoise) in _parts)
        {
            var each = loss.PerSample(isOfNoise ? noise : pictures);
            sums[name] = Sum(each);
            using var factor = weight.ToScalar();
            if (isOfNoise)
                ofNoise = ofNoise is null ? each.mul(factor) : ofNoise.add(each, factor);
            else
                ofPictures = ofPictures is null ? each.mul(factor) : ofPictures.add(each, factor);
        }
        sums["loss"] = (ofPictures is null ? 0 : Sum(ofPictures)) + (ofNoise is null ? 0 : Sum(ofNoise));
        return sums;
    }

    public void Dispose()
    {
        foreach (var owned in _owned)
            owned.Dispose();
    }

    private WeightedLoss? Sum(bool ofNoise) => _parts.Where(part => part.OfNoise == ofNoise).Select(part => (part.Weight, part.Loss)).ToArray() is { Length: > 0 } terms ? new WeightedLoss(terms) : null;

    private static double Sum(Tensor each)
    {
        using var scope = NewDisposeScope();
        var sum = 0.0;
        foreach (var value in each.to(ScalarType.Float64).cpu().data<double>().ToArray())
            sum += value;
        return sum;
    }
}
