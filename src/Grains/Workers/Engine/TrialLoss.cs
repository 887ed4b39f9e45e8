using AdjointDpm.Grains.Specs;
using AdjointDpm.Losses;
using AdjointDpm.Models.Classifiers;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>The weighted losses of a spec for one batch, whole and part by part.</summary>
internal sealed class TrialLoss : IDisposable
{
    private readonly List<(string Name, SampleLoss Loss)> _parts = [];
    private readonly WeightedLoss _whole;
    private readonly Func<Tensor, Tensor> _picture;

    /// <param name="spec">Spec.</param>
    /// <param name="classifiers">Loads a classifier folder onto the engine's device, once.</param>
    /// <param name="labels">Class of each sample; empty for a model without classes.</param>
    /// <param name="channels">Channels of the pictures.</param>
    /// <param name="picture">Makes pictures of samples, which is what losses look at.</param>
    /// <param name="frozenSamples">Samples of the untrained model from the same noise.</param>
    public TrialLoss(ExperimentSpec spec, Func<string, ImageClassifier> classifiers, long[] labels, long channels, Func<Tensor, Tensor> picture, Func<Tensor> frozenSamples)
    {
        _picture = picture;
        var weighted = new List<(double, SampleLoss)>();
        for (var i = 0; i < spec.Losses.Count; i++)
        {
            var loss = Make(spec.Losses[i], i, classifiers, labels, channels, () => picture(frozenSamples()));
            var name = NameOf(spec.Losses[i].Name);
            _parts.Add((spec.Losses.Count(other => other.Name == spec.Losses[i].Name) > 1 ? $"{name}.{i}" : name, loss));
            weighted.Add((spec.Losses[i].Weight, loss));
        }
        _whole = new WeightedLoss([.. weighted]);
    }

    public Tensor Mean(Tensor samples) => _whole.Mean(_picture(samples));

    /// <summary>Sums over the samples: "loss", and each part before its weight. Added in double, in the order of the samples.</summary>
    public Dictionary<string, double> Sums(Tensor samples)
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var pictures = _picture(samples);
        var sums = new Dictionary<string, double> { ["loss"] = Sum(_whole, pictures) };
        foreach (var (name, loss) in _parts)
            sums[name] = Sum(loss, pictures);
        return sums;
    }

    public void Dispose()
    {
        foreach (var (_, loss) in _parts)
            (loss as IDisposable)?.Dispose();
    }

    private static double Sum(SampleLoss loss, Tensor samples)
    {
        using var scope = NewDisposeScope();
        var each = loss.PerSample(samples).to(ScalarType.Float64).cpu().data<double>().ToArray();
        var sum = 0.0;
        foreach (var value in each)
            sum += value;
        return sum;
    }

    private static SampleLoss Make(LossSpec spec, int index, Func<string, ImageClassifier> classifiers, long[] labels, long channels, Func<Tensor> frozenSamples)
    {
        switch (spec.Name)
        {
            case LossName.CrossEntropy:
                if (labels.Length == 0)
                    throw new InvalidDataException($"losses[{index}] is cross-entropy, but the model has no classes that its samples could be asked to show.");
                return new CrossEntropyLoss(classifiers(Required(spec.Classifier, index, "classifier")), labels);
            case LossName.GramStyle:
                var features = classifiers(Required(spec.Classifier, index, "classifier"));
                using (var scope = NewDisposeScope())
                {
                    var reference = ReferenceImage.Load(Required(spec.Reference, index, "reference"), channels).to(features.parameters().First().device);
                    return new GramStyleLoss(features, reference, spec.Layers?.ToDictionary(layer => layer, _ => 1.0));
                }
            case LossName.PixelDistance:
                using (var scope = NewDisposeScope())
                    return new PixelDistanceLoss(spec.Reference is { } path ? ReferenceImage.Load(path, channels) : Detached(frozenSamples));
            default:
                throw new NotSupportedException($"losses[{index}] has the unknown name {spec.Name}.");
        }
    }

    private static Tensor Detached(Func<Tensor> samples)
    {
        using var frozen = no_grad();
        return samples();
    }

    private static string Required(string? value, int index, string key) =>
        value ?? throw new InvalidDataException($"losses[{index}] needs '{key}'.");

    private static string NameOf(LossName name) => name switch
    {
        LossName.GramStyle => "gramStyle",
        LossName.CrossEntropy => "crossEntropy",
        _ => "pixelDistance",
    };
}
