using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>What CLIP sees of samples: prepared, whole or in parts.</summary>
internal sealed class ClipViews(ClipVisionModel model, ImagePreparation? preparation)
{
    private readonly ImagePreparation _preparation = preparation is null ? ImagePreparation.Clip(model.Config.ImageSize)
        : preparation.Side == model.Config.ImageSize ? preparation
        : throw new ArgumentException($"The preparation makes pictures of {preparation.Side} pixels, the network takes {model.Config.ImageSize}.", nameof(preparation));

    public ClipVisionModel Model => model;

    public CutoutPlan? Cutouts { get; set; }

    /// <summary>Prepared pictures in the network's dtype, [views · B, C, side, side], in the current dispose scope.</summary>
    public Tensor Pixels(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var x = samples.to(model.Dtype());
        var sized = Cutouts is null
            ? _preparation.Sized(x)
            : cat([.. Cutouts.For(x.shape[2], x.shape[3]).Select(c => _preparation.Sized(x.narrow(2, c.Top, c.Side).narrow(3, c.Left, c.Side)))], 0);
        return _preparation.Normalise(sized).MoveToOuterDisposeScope();
    }

    /// <summary>Embeddings of unit length, [views, B, width], in the current dispose scope.</summary>
    public Tensor Embeddings(Tensor samples)
    {
        using var scope = NewDisposeScope();
        return Unit(model.call(Pixels(samples))).reshape(-1, samples.shape[0], model.Config.ProjectionDim).MoveToOuterDisposeScope();
    }

    /// <summary>Vectors of unit length along the last axis.</summary>
    public static Tensor Unit(Tensor vectors) => vectors.div(vectors.Squared().sum([-1], keepdim: true).sqrt());
}
