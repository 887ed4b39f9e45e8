using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>How two Gram matrices are compared.</summary>
public enum GramDistance
{
    /// <summary>‖G − G_ref‖² / ‖G_ref‖², dimensionless: 1 is the distance of a blank.</summary>
    Relative,

    /// <summary>‖G − G_ref‖, not squared, of G = Fᵀ F without any division: what FreeDoM and symplectic adjoint guidance step along.</summary>
    Norm,
}

/// <summary>How far the style of a sample is from a reference's in CLIP's eyes: the Gram matrices of its patches' states in one layer, G = Fᵀ F, with F the states [patches, width].</summary>
/// <remarks>FreeDoM (Yu et al. 2023) and symplectic adjoint guidance (Pan et al. 2023) take ViT-B/16 or B/32 after its third layer, the class state left away. Norms are Frobenius'.</remarks>
public sealed class ClipGramLoss : SampleLoss, IDisposable
{
    // Under a root, so that its derivative is finite at the reference itself.
    private static readonly Scalar Tiny = 1e-30;

    private readonly ClipViews _views;
    private readonly int _layer;
    private readonly Tensor _reference;
    private readonly Scalar? _scale;

    /// <summary>A loss that asks for a style.</summary>
    /// <param name="model">CLIP's vision tower; not owned. Its weights are not meant to require gradients.</param>
    /// <param name="references">Images of the style, [N, C, H, W] in [-1, 1]; their Gram matrices are averaged. Another size than the samples' is fine.</param>
    /// <param name="layer">After how many layers the states are taken, from 1. Default: 3.</param>
    /// <param name="distance">How matrices are compared. Default: relative.</param>
    /// <param name="preparation">How pictures are prepared. Default: CLIP's way.</param>
    /// <exception cref="ArgumentException">The network has no such layer, or the preparation has another size.</exception>
    public ClipGramLoss(ClipVisionModel model, Tensor references, int layer = 3, GramDistance distance = GramDistance.Relative, ImagePreparation? preparation = null)
    {
        if (layer < 1 || layer > model.Config.NumHiddenLayers)
            throw new ArgumentException($"Layer {layer} is not one of the network's 1..{model.Config.NumHiddenLayers}.", nameof(layer));
        (_views, _layer) = (new(model, preparation), layer);
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var reference = Gram(references).mean([0], keepdim: true);
        if (distance == GramDistance.Relative)
            _scale = 1 / reference.Squared().sum().to(ScalarType.Float64).Number();
        _reference = reference.DetachFromDisposeScope();
    }

    /// <inheritdoc/>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var squares = Gram(samples).sub(_reference).Squared().sum([1, 2]);
        var distance = _scale is null ? squares.Plus(Tiny).sqrt() : squares.mul(_scale);
        GC.KeepAlive(this);
        return distance.MoveToOuterDisposeScope();
    }

    /// <summary>Frees the references' Gram matrix.</summary>
    public void Dispose() => _reference.Dispose();

    private Tensor Gram(Tensor images)
    {
        using var scope = NewDisposeScope();
        var states = _views.Model.States(_views.Pixels(images), _layer);
        var patches = states.narrow(1, 1, states.shape[1] - 1);
        return patches.transpose(1, 2).matmul(patches).MoveToOuterDisposeScope();
    }
}
