using AdjointDpm.Grains.Specs;
using AdjointDpm.Losses;
using AdjointDpm.Models.Classifiers;
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
            for (var i = 0; i < losses.Count; i++)
            {
                var loss = parts.Make(losses[i], i, out var owned);
                if (owned is not null)
                    _owned.Add(owned);
                var name = NameOf(losses[i].Name);
                _parts.Add((losses.Count(other => other.Name == losses[i].Name) > 1 ? $"{name}.{i}" : name, losses[i].Weight, loss, losses[i].Name == LossName.NoiseNorm));
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

    private static string NameOf(LossName name)
    {
        var text = name.ToString();
        return name switch
        {
            LossName.TorchScript => "torchscript",
            _ => char.ToLowerInvariant(text[0]) + text[1..],
        };
    }
}

/// <summary>Makes the losses of a batch. What several of them need of the frozen model is drawn once.</summary>
internal sealed class LossParts(LossBatch batch) : IDisposable
{
    private static readonly HttpClient Http = RewardSidecar.NewClient();

    private Tensor? _frozenPictures;

    /// <param name="spec">The loss.</param>
    /// <param name="index">Its place in the spec.</param>
    /// <param name="owned">What is to be disposed after use; null for what is kept with the networks.</param>
    public SampleLoss Make(LossSpec spec, int index, out IDisposable? owned)
    {
        var loss = Make(spec, index);
        owned = spec.Name is LossName.TorchScript or LossName.Onnx ? null : loss as IDisposable;
        return loss;
    }

    private SampleLoss Make(LossSpec spec, int index)
    {
        // Temporary tensors end here; what a loss keeps it has detached.
        using var scope = NewDisposeScope();
        switch (spec.Name)
        {
            case LossName.CrossEntropy:
                return new CrossEntropyLoss(Classifier(spec, index), Labels(spec, index));
            case LossName.LogProbability:
                return new LogProbabilityLoss(Classifier(spec, index), Goal(spec), Labels(spec, index));
            case LossName.Margin:
                return new MarginLoss(Classifier(spec, index), Goal(spec), spec.Confidence ?? 0, Labels(spec, index));
            case LossName.GramStyle:
                var features = Classifier(spec, index);
                return new GramStyleLoss(features, Reference(spec, index).to(features.parameters().First().device), Layers(spec));
            case LossName.Content:
                return new FeatureDistanceLoss(Classifier(spec, index), ReferenceOrFrozen(spec), Layers(spec));
            case LossName.Perceptual:
                return new PerceptualDistanceLoss(Classifier(spec, index), ReferenceOrFrozen(spec), Layers(spec));
            case LossName.PixelDistance:
                return new PixelDistanceLoss(ReferenceOrFrozen(spec));
            case LossName.GaussianDivergence:
                return new GaussianDivergenceLoss(FrozenPictures(), spec.Deviation ?? throw Missing(index, "deviation"));
            case LossName.TotalVariation:
                return new TotalVariationLoss(spec.Squared == true ? VariationKind.Squared : VariationKind.Absolute);
            case LossName.NoiseNorm:
                return new NoiseNormLoss(spec.Squared == true ? NoiseNormKind.SquaredDeviation : NoiseNormKind.ChiLogDensity);
            case LossName.ClipSimilarity:
                return new ClipSimilarityLoss(Clip(spec, index), ClipWanted(spec, index)) { Cutouts = Cutouts(spec) };
            case LossName.ClipGram:
                return new ClipGramLoss(Clip(spec, index), Reference(spec, index).to(batch.Dtype, DeviceOf(Clip(spec, index))), spec.Layer ?? 3, spec.Distance == GramDistanceName.Norm ? GramDistance.Norm : GramDistance.Relative);
            case LossName.Aesthetic:
                return new AestheticLoss(Clip(spec, index), batch.Networks.Head(spec, batch.Dtype), spec.Target) { Cutouts = Cutouts(spec) };
            case LossName.TorchScript or LossName.Onnx:
                return batch.Networks.Reward(spec, batch.Dtype);
            case LossName.Sidecar:
                var options = new RewardSidecarOptions { Range = LossNetworks.Range(spec), Maximise = spec.Maximize ?? true, Token = spec.SecretRef is { } reference ? SecretReference.Read(reference, Environment.GetEnvironmentVariable) : null };
                return new RewardSidecar(Http, [.. (spec.Addresses ?? throw Missing(index, "addresses")).Select(address => new Uri(address))], options, TimeProvider.System).AsLoss(batch.Cancellation);
            default:
                throw new NotSupportedException($"losses[{index}] has the unknown name {spec.Name}.");
        }
    }

    public void Dispose() => _frozenPictures?.Dispose();

    private static AuditGoal Goal(LossSpec spec) => spec.Goal == AuditGoalName.Untargeted ? AuditGoal.Untargeted : AuditGoal.Targeted;

    private static Dictionary<string, double>? Layers(LossSpec spec) => spec.Layers?.ToDictionary(layer => layer, _ => 1.0);

    private static Device DeviceOf(nn.Module network) => network.parameters().First().device;

    private static InvalidDataException Missing(int index, string key) => new($"losses[{index}] needs '{key}'.");

    private ImageClassifier Classifier(LossSpec spec, int index) => batch.Networks.Classifier(spec.Classifier ?? throw Missing(index, "classifier"), batch.Dtype);

    private AdjointDpm.Models.Clip.ClipVisionModel Clip(LossSpec spec, int index) => batch.Networks.Clip(spec.Clip ?? throw Missing(index, "clip"), batch.Dtype);

    private CutoutPlan? Cutouts(LossSpec spec) => spec.Cutouts is { } count ? new CutoutPlan((ulong)batch.Spec.Training.Seed, count, batch.Step) : null;

    private long[] Labels(LossSpec spec, int index)
    {
        if (spec.Label is { } label)
            return [label];
        return batch.Labels.Length > 0 ? batch.Labels
            : throw new InvalidDataException($"losses[{index}] is {ExperimentSpecJson.NameOf(spec.Name)}, but the model has no classes that its samples could be asked to show. Set 'label'.");
    }

    private Tensor Reference(LossSpec spec, int index) => ReferenceImage.Load(spec.Reference ?? throw Missing(index, "reference"), batch.Channels);

    private Tensor ReferenceOrFrozen(LossSpec spec) => spec.Reference is { } path ? ReferenceImage.Load(path, batch.Channels).to(batch.Device) : FrozenPictures();

    private Tensor FrozenPictures()
    {
        if (_frozenPictures is not null)
            return _frozenPictures;
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        return _frozenPictures = batch.Picture(batch.Frozen()).DetachFromDisposeScope();
    }

    private Tensor ClipWanted(LossSpec spec, int index)
    {
        var tower = Clip(spec, index);
        if (spec.Reference is not null)
        {
            using var frozen = no_grad();
            using var scope = NewDisposeScope();
            return tower.call(ImagePreparation.Clip(tower.Config.ImageSize).Apply(Reference(spec, index).to(batch.Dtype, DeviceOf(tower)))).MoveToOuterDisposeScope();
        }
        var texts = LossNetworks.TextsOf(spec, batch.Spec);
        var folder = spec.ClipText ?? throw Missing(index, "clipText");
        return spec.Text is { } text ? batch.Networks.Text(folder, text, batch.Dtype) : cat([.. batch.Conditions.Select(c => batch.Networks.Text(folder, texts[(int)c], batch.Dtype))], 0);
    }
}
