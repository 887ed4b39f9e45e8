using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>How far CLIP finds a sample from a text or from another picture: 1 − cos of their embeddings, from 0 to 2. With cutouts, the mean over them.</summary>
/// <remarks>
/// Radford et al. (2021). The CLIP score is exp(logit_scale) · cos, 100 cos for OpenAI's networks; a PickScore or HPSv2 is the same with their networks. Published cosines of a picture and its text are .2 to .35.
/// Pictures are prepared as CLIP's are, see <see cref="ImagePreparation.Clip"/>: resized with antialiasing, not cut off at black and white.
/// </remarks>
public sealed class ClipSimilarityLoss : SampleLoss, IDisposable
{
    private readonly ClipViews _views;
    private readonly Tensor _wanted;

    /// <summary>A loss that asks for a text or a picture.</summary>
    /// <param name="model">CLIP's vision tower; not owned. Its weights are not meant to require gradients.</param>
    /// <param name="embeddings">Embeddings of texts (see <see cref="TextEmbedding"/>) or pictures, one for each sample, [B, width], or one for all, [1, width]; of any length; copied.</param>
    /// <param name="preparation">How pictures are prepared. Default: CLIP's way.</param>
    /// <exception cref="ArgumentException">The embeddings do not have the network's width, or the preparation its size.</exception>
    public ClipSimilarityLoss(ClipVisionModel model, Tensor embeddings, ImagePreparation? preparation = null)
    {
        if (embeddings.dim() != 2 || embeddings.shape[1] != model.Config.ProjectionDim)
            throw new ArgumentException($"Embeddings [{string.Join(", ", embeddings.shape)}] do not fit a network that makes [B, {model.Config.ProjectionDim}]. A text's must come from the same CLIP, through its projection.", nameof(embeddings));
        _views = new(model, preparation);
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        _wanted = ClipViews.Unit(embeddings.detach()).DetachFromDisposeScope();
    }

    /// <summary>Parts of the picture to look at instead of the whole. Set it anew, with its step, before each step of an optimiser. Default: null, the whole.</summary>
    public CutoutPlan? Cutouts
    {
        get => _views.Cutouts;
        set => _views.Cutouts = value;
    }

    /// <summary>The embedding of a text: [1, width], in the current dispose scope.</summary>
    /// <param name="model">CLIP's text tower, with its projection.</param>
    /// <param name="tokenizer">CLIP's tokenizer.</param>
    /// <param name="text">The text; what is beyond the tokenizer's length is left away.</param>
    /// <exception cref="ArgumentException">The model has no projection.</exception>
    public static Tensor TextEmbedding(ClipTextModel model, ClipTokenizer tokenizer, string text)
    {
        if (!model.Config.Projects)
            throw new ArgumentException("This text encoder has no projection to the space of pictures. Use a CLIPTextModelWithProjection.", nameof(model));
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        return model.Encode(tokenizer.EncodePadded([text]).to(model.TokenEmbeddings.device)).Pooled.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    /// <exception cref="ArgumentException">There are neither as many embeddings as samples nor one for all.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        if (_wanted.shape[0] != 1 && _wanted.shape[0] != samples.shape[0])
            throw new ArgumentException($"{samples.shape[0]} samples but {_wanted.shape[0]} embeddings. Give one for each sample, or one for all.", nameof(samples));
        using var scope = NewDisposeScope();
        var embeddings = _views.Embeddings(samples);
        var cosines = embeddings.mul(_wanted.to(embeddings.dtype, embeddings.device)).sum([-1]).mean([0]);
        return cosines.neg().Plus(Rooted.One).MoveToOuterDisposeScope();
    }

    /// <summary>Frees the embeddings.</summary>
    public void Dispose() => _wanted.Dispose();
}
