using static TorchSharp.torch;

namespace AdjointDpm.Models.Classifiers;

/// <summary>A classifier of images, differentiable with respect to them: a loss's judge, or the source of features for a style.</summary>
/// <remarks>Images have shape [B, C, H, W] and values in [-1, 1], as diffusion models make them; values beyond are taken as they are.</remarks>
public abstract class ImageClassifier : nn.Module<Tensor, Tensor>
{
    /// <summary>Names the module.</summary>
    protected ImageClassifier(string name)
        : base(name)
    {
    }

    /// <summary>Number of classes.</summary>
    public abstract int Classes { get; }

    /// <summary>Names of the feature layers, from the image inwards.</summary>
    public abstract IReadOnlyList<string> Layers { get; }

    /// <summary>Unnormalised log-probabilities, shape [B, classes].</summary>
    public abstract Tensor Logits(Tensor images);

    /// <summary>Activations of every layer in <see cref="Layers"/>, each of shape [B, C, h, w].</summary>
    public abstract IReadOnlyDictionary<string, Tensor> Features(Tensor images);

    /// <summary>Writes the configuration beside the weights, in the form that <see cref="ClassifierFolder"/> reads.</summary>
    /// <param name="path">Path of the <c>config.json</c>.</param>
    public abstract void WriteConfig(string path);

    /// <summary>Element type of the weights, and so of images and logits.</summary>
    public ScalarType Dtype() => parameters().First().dtype;

    /// <inheritdoc cref="Logits"/>
    public sealed override Tensor forward(Tensor images) => Logits(images);
}
