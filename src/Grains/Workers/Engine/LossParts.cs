using AdjointDpm.Grains.Specs;
using AdjointDpm.Losses;
using AdjointDpm.Models.Classifiers;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

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
        // Temporary tensors end here; what a loss keeps it has detached.
        using var scope = NewDisposeScope();
        var (loss, isKept) = Make(spec, index);
        owned = isKept ? null : loss as IDisposable;
        return IsViewed(spec) ? new ViewedLoss(loss) { Side = spec.Resize, Cutouts = Cutouts(spec) } : loss;
    }

    public void Dispose() => _frozenPictures?.Dispose();

    private (SampleLoss Loss, bool IsKept) Make(LossSpec spec, int index) => spec.Name switch
    {
        LossName.CrossEntropy => (new CrossEntropyLoss(Classifier(spec, index), Labels(spec, index)), false),
        LossName.LogProbability => (new LogProbabilityLoss(Classifier(spec, index), Goal(spec), Labels(spec, index)), false),
        LossName.Margin => (new MarginLoss(Classifier(spec, index), Goal(spec), spec.Confidence ?? 0, Labels(spec, index)), false),
        LossName.GramStyle or LossName.ClipGram => (Compared(spec, index), true),
        LossName.Content when spec.Reference is null => (new FeatureDistanceLoss(Classifier(spec, index), Frozen(spec), LossNetworks.Layers(spec)), false),
        LossName.Perceptual when spec.Reference is null => (new PerceptualDistanceLoss(Classifier(spec, index), Frozen(spec), LossNetworks.Layers(spec)), false),
        LossName.Content or LossName.Perceptual => (Compared(spec, index), true),
        LossName.PixelDistance => (new PixelDistanceLoss(spec.Reference is { } path ? batch.Networks.Reference(path, batch.Dtype, batch.Channels) : FrozenPictures()), false),
        LossName.GaussianDivergence => (new GaussianDivergenceLoss(FrozenPictures(), spec.Deviation ?? throw Missing(index, "deviation")), false),
        LossName.TotalVariation => (new TotalVariationLoss(spec.Squared == true ? VariationKind.Squared : VariationKind.Absolute), false),
        LossName.NoiseNorm => (new NoiseNormLoss(spec.Squared == true ? NoiseNormKind.SquaredDeviation : NoiseNormKind.ChiLogDensity), false),
        LossName.ClipSimilarity => (new ClipSimilarityLoss(Clip(spec, index), ClipWanted(spec, index)) { Cutouts = Cutouts(spec) }, false),
        LossName.Aesthetic => (new AestheticLoss(Clip(spec, index), batch.Networks.Head(spec, batch.Dtype), spec.Target) { Cutouts = Cutouts(spec) }, false),
        LossName.TorchScript or LossName.Onnx => (batch.Networks.Reward(spec, batch.Dtype), true),
        LossName.Sidecar => (batch.Networks.Sidecar(spec.Addresses is null ? throw Missing(index, "addresses") : spec, Http, TimeProvider.System).AsLoss(batch.Cancellation), false),
        LossName.Custom => (Custom(spec, index), false),
        _ => throw new NotSupportedException($"losses[{index}] has the unknown name {spec.Name}."),
    };

    // CLIP's losses cut for themselves, before their own preparation.
    private static bool IsViewed(LossSpec spec) => spec.Resize is not null || (spec.Cutouts is not null && spec.Clip is null);

    private static AuditGoal Goal(LossSpec spec) => spec.Goal == AuditGoalName.Untargeted ? AuditGoal.Untargeted : AuditGoal.Targeted;

    private static InvalidDataException Missing(int index, string key) => new($"losses[{index}] needs '{key}'.");

    private ImageClassifier Classifier(LossSpec spec, int index) => batch.Networks.Classifier(spec.Classifier ?? throw Missing(index, "classifier"), batch.Dtype);

    private AdjointDpm.Models.Clip.ClipVisionModel Clip(LossSpec spec, int index) => batch.Networks.Clip(spec.Clip ?? throw Missing(index, "clip"), batch.Dtype);

    private SampleLoss Compared(LossSpec spec, int index) => batch.Networks.Compared(spec.Reference is null ? throw Missing(index, "reference") : spec, batch.Dtype, batch.Channels);

    private CutoutPlan? Cutouts(LossSpec spec) => spec.Cutouts is { } count ? new CutoutPlan((ulong)batch.Spec.Training.Seed, count, batch.Step) : null;

    private SampleLoss Custom(LossSpec spec, int index) => batch.Networks.Own.Create(spec.Loss ?? throw Missing(index, "loss"), index, new SampleLossRequest
    {
        Options = spec.Options ?? new Dictionary<string, string>(),
        Labels = batch.Labels,
        Prompts = batch.Spec.Sample.Prompts is { } prompts ? [.. batch.Conditions.Select(c => prompts[(int)c])] : [],
        Channels = batch.Channels,
        Dtype = batch.Dtype,
        Device = batch.Device,
        Seed = (ulong)batch.Spec.Training.Seed,
        Step = batch.Step,
        Cancellation = batch.Cancellation,
    });

    private long[] Labels(LossSpec spec, int index)
    {
        if (spec.Label is { } label)
            return [label];
        return batch.Labels.Length > 0 ? batch.Labels
            : throw new InvalidDataException($"losses[{index}] is {ExperimentSpecJson.NameOf(spec.Name)}, but the model has no classes that its samples could be asked to show. Set 'label'.");
    }

    private Tensor Frozen(LossSpec spec) => spec.Resize is { } side ? ImageResize.To(FrozenPictures(), side, side) : FrozenPictures();

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
        if (spec.Reference is not null)
            return batch.Networks.Seen(spec, batch.Dtype, batch.Channels);
        var texts = LossNetworks.TextsOf(spec, batch.Spec);
        var folder = spec.ClipText ?? throw Missing(index, "clipText");
        return spec.Text is { } text ? batch.Networks.Text(folder, text, batch.Dtype) : cat([.. batch.Conditions.Select(c => batch.Networks.Text(folder, texts[(int)c], batch.Dtype))], 0);
    }
}
