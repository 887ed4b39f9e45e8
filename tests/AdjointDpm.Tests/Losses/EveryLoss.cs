using AdjointDpm.Losses;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Models.Clip;
using AdjointDpm.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

/// <summary>Every loss of the library by a name, on samples [B, 3, 10, 10], in either precision. What is not per sample only, has one label or reference for all.</summary>
internal static class EveryLoss
{
    public static readonly string[] Names =
    [
        "cross-entropy", "log-probability targeted", "log-probability untargeted", "margin targeted", "margin untargeted", "margin without end", "features", "features weighted",
        "perceptual", "perceptual weighted", "pixels", "divergence", "variation absolute", "variation squared", "noise chi", "noise squared", "gram style",
        "clip similarity", "clip similarity cutouts", "clip gram", "clip gram norm", "aesthetic", "aesthetic target", "aesthetic cutouts", "torchscript", "external", "resized", "cutouts", "sum",
    ];

    /// <summary>Losses that are sums over values of a sample: no network, so that a batch's size cannot change the order of a sum.</summary>
    public static readonly string[] Plain = ["pixels", "divergence", "variation absolute", "variation squared", "noise chi", "noise squared", "external"];

    public static SampleLoss Build(string name, ScalarType dtype = ScalarType.Float64)
    {
        var reference = Reference(dtype, 1);
        switch (name)
        {
            case "cross-entropy": return new CrossEntropyLoss(Classifier(dtype), 4);
            case "log-probability targeted": return new LogProbabilityLoss(Classifier(dtype), AuditGoal.Targeted, 4);
            case "log-probability untargeted": return new LogProbabilityLoss(Classifier(dtype), AuditGoal.Untargeted, 4);
            case "margin targeted": return new MarginLoss(Classifier(dtype), AuditGoal.Targeted, 50, 4);
            case "margin untargeted": return new MarginLoss(Classifier(dtype), AuditGoal.Untargeted, 50, 4);
            case "margin without end": return new MarginLoss(Classifier(dtype), AuditGoal.Untargeted, double.PositiveInfinity, 2);
            case "features": return new FeatureDistanceLoss(Classifier(dtype), reference);
            case "features weighted": return new FeatureDistanceLoss(Classifier(dtype), reference, new Dictionary<string, double> { ["stage2"] = 3 });
            case "perceptual": return new PerceptualDistanceLoss(Classifier(dtype), reference);
            case "perceptual weighted": return new PerceptualDistanceLoss(Classifier(dtype), reference, new Dictionary<string, double> { ["stem"] = 2, ["stage2"] = 0.5 }, new Dictionary<string, Tensor> { ["stage2"] = rand(8) });
            case "pixels": return new PixelDistanceLoss(reference);
            case "divergence": return new GaussianDivergenceLoss(reference, 0.3);
            case "variation absolute": return new TotalVariationLoss(VariationKind.Absolute);
            case "variation squared": return new TotalVariationLoss(VariationKind.Squared);
            case "noise chi": return new NoiseNormLoss(NoiseNormKind.ChiLogDensity);
            case "noise squared": return new NoiseNormLoss(NoiseNormKind.SquaredDeviation);
            case "gram style": return new GramStyleLoss(Classifier(dtype), reference);
            case "clip similarity": return new ClipSimilarityLoss(Clip(dtype), randn(1, 10, dtype: dtype));
            case "clip similarity cutouts": return new ClipSimilarityLoss(Clip(dtype), randn(1, 10, dtype: dtype)) { Cutouts = new(3, 4) };
            case "clip gram": return new ClipGramLoss(Clip(dtype), Reference(dtype, 2), 2);
            case "clip gram norm": return new ClipGramLoss(Clip(dtype), reference, 3, GramDistance.Norm);
            case "aesthetic": return new AestheticLoss(Clip(dtype), AestheticHead.Of(randn(10), 5.2));
            case "aesthetic target": return new AestheticLoss(Clip(dtype), AestheticHead.Of(randn(10), 5.2), 10);
            case "aesthetic cutouts": return new AestheticLoss(Clip(dtype), AestheticHead.Of(randn(10), 5.2)) { Cutouts = new(3, 2) };
            case "torchscript": return TorchScriptLoss.Load(Path.Combine(ReferenceFolder.Of("losses"), "reward.pt")).To(CPU, dtype);
            case "external": return new ExternalRewardLoss(Brightness);
            case "resized": return new ViewedLoss(Build("cross-entropy", dtype)) { Side = 7 };
            case "cutouts": return new ViewedLoss(Build("gram style", dtype)) { Cutouts = new(3, 3), Side = 8 };
            default: return new WeightedLoss((0.3, Build("cross-entropy", dtype)), (2, Build("pixels", dtype)));
        }
    }

    /// <summary>A reward as a sidecar would compute it: −mean (x − ¾)² and its gradient.</summary>
    public static RewardScores Brightness(Tensor images, bool wantGradients)
    {
        var values = images.numel() / images.shape[0];
        var difference = images - 0.75;
        return new(-(difference * difference).flatten(1).mean([1]), wantGradients ? difference * (-2.0 / values) : null);
    }

    public static ResidualClassifier Classifier(ScalarType dtype)
    {
        var classifier = new ResidualClassifier(new ResidualClassifierConfig { InChannels = 3, Channels = [8, 8], StemStride = 1 });
        classifier.to(dtype);
        classifier.eval();
        foreach (var parameter in classifier.parameters())
            parameter.requires_grad_(false);
        return classifier;
    }

    public static ClipVisionModel Clip(ScalarType dtype)
    {
        var model = ClipVisionModel.Load(ReferenceFolder.Of("clip_vision"));
        model.to(dtype);
        return model;
    }

    private static Tensor Reference(ScalarType dtype, long count) => randn(count, 3, 10, 10, dtype: dtype);
}
