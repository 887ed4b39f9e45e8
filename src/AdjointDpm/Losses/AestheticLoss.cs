using AdjointDpm.Models.Clip;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>Minus an aesthetic score in LAION's points, 1 to 10 for pictures; or the distance of the score to a target.</summary>
/// <remarks>Without a target DRaFT's (Clark et al. 2024) −r; with one AlignProp's (Prabhudesai et al. 2023) |r − 10|, which stops there.</remarks>
public sealed class AestheticLoss : SampleLoss
{
    private readonly ClipViews _views;
    private readonly AestheticHead _head;
    private readonly Scalar? _target;

    /// <summary>A loss that asks for high scores.</summary>
    /// <param name="model">The CLIP that the head was trained with; not owned. Its weights are not meant to require gradients.</param>
    /// <param name="head">The score; not owned.</param>
    /// <param name="target">Score to come near to. Default: null, the higher the better.</param>
    /// <param name="preparation">How pictures are prepared. Default: CLIP's way.</param>
    /// <exception cref="ArgumentException">Network, head and preparation do not fit together.</exception>
    public AestheticLoss(ClipVisionModel model, AestheticHead head, double? target = null, ImagePreparation? preparation = null)
    {
        if (head.Width != model.Config.ProjectionDim)
            throw new ArgumentException($"The head is for embeddings of width {head.Width}, the network makes {model.Config.ProjectionDim}. Use the CLIP that it was trained with.", nameof(head));
        (_views, _head, _target) = (new(model, preparation), head, target is { } t ? (Scalar)t : null);
    }

    /// <summary>Parts of the picture to look at instead of the whole; scores are averaged over them. Default: null, the whole.</summary>
    public CutoutPlan? Cutouts
    {
        get => _views.Cutouts;
        set => _views.Cutouts = value;
    }

    /// <inheritdoc/>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var scores = _head.Score(_views.Embeddings(samples)).mean([0]);
        var loss = _target is null ? scores.neg() : scores.sub(_target).abs();
        GC.KeepAlive(this);
        return loss.MoveToOuterDisposeScope();
    }
}
