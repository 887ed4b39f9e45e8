using AdjointDpm.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>How a picture that is not square becomes one.</summary>
public enum ImageFit
{
    /// <summary>The shorter side is resized to the wanted one, and what sticks out on both ends of the longer is left away: CLIP's own way. What is left away has no gradient.</summary>
    Crop,

    /// <summary>The whole picture, squeezed.</summary>
    Stretch,
}

/// <summary>How a network wants its pictures: their size and the normalisation of their channels. Differentiable.</summary>
/// <remarks>Values beyond [-1, 1] are not cut off, since a cut would stop their gradient; a file written of the sample is cut off, and may score otherwise.</remarks>
public sealed record ImagePreparation
{
    /// <summary>Height and width wanted, in pixels.</summary>
    public required int Side { get; init; }

    /// <summary>Mean of each channel, of pictures in [0, 1]. One entry stands for all channels.</summary>
    public IReadOnlyList<double> Mean { get; init; } = [0];

    /// <summary>Standard deviation of each channel, of pictures in [0, 1]. One entry stands for all channels.</summary>
    public IReadOnlyList<double> Deviation { get; init; } = [1];

    /// <summary>Channels wanted; pictures of one channel are repeated. Default: 3.</summary>
    public int Channels { get; init; } = 3;

    /// <summary>Filter of the resize. Default: bicubic.</summary>
    public ResizeFilter Filter { get; init; } = ResizeFilter.Bicubic;

    /// <summary>How pictures that are not square become so. Default: by a crop.</summary>
    public ImageFit Fit { get; init; }

    /// <summary>As CLIP and OpenCLIP want them: bicubic to the shorter side, crop in the middle, CLIP's means and deviations.</summary>
    /// <param name="side">The network's image size. Default: 224.</param>
    public static ImagePreparation Clip(int side = 224) => new()
    {
        Side = side,
        Mean = [0.48145466, 0.4578275, 0.40821073],
        Deviation = [0.26862954, 0.26130258, 0.27577711],
    };

    /// <summary>As networks trained on ImageNet with torchvision want them: bilinear, ImageNet's means and deviations.</summary>
    /// <param name="side">The network's image size. Default: 224.</param>
    public static ImagePreparation ImageNet(int side = 224) => new()
    {
        Side = side,
        Mean = [0.485, 0.456, 0.406],
        Deviation = [0.229, 0.224, 0.225],
        Filter = ResizeFilter.Bilinear,
    };

    /// <summary>Prepares pictures.</summary>
    /// <param name="images">[B, C or 1, H, W], near [-1, 1], float32 or float64.</param>
    /// <returns>[B, C, side, side] of the same dtype, in the current dispose scope.</returns>
    /// <exception cref="ArgumentException">The pictures have another number of channels.</exception>
    public Tensor Apply(Tensor images)
    {
        using var scope = NewDisposeScope();
        return Normalise(Sized(images)).MoveToOuterDisposeScope();
    }

    /// <summary>Only the size: [B, C, H, W] to [B, C, side, side].</summary>
    internal Tensor Sized(Tensor images)
    {
        var (height, width) = (images.shape[2], images.shape[3]);
        if (Fit == ImageFit.Stretch || height == width)
            return ImageResize.To(images, Side, Side, Filter);
        // torchvision's sizes and offsets, its roundings included.
        var (tall, wide) = height < width ? (Side, Side * width / height) : (Side * height / width, (long)Side);
        var (top, left) = ((long)Math.Round((tall - Side) / 2.0), (long)Math.Round((wide - Side) / 2.0));
        return ImageResize.To(images, tall, wide, Filter).narrow(2, top, Side).narrow(3, left, Side);
    }

    /// <summary>Only the channels and their values.</summary>
    internal Tensor Normalise(Tensor images)
    {
        if (images.shape[1] == 1 && Channels > 1)
            images = images.expand(-1, Channels, -1, -1);
        if (images.shape[1] != Channels)
            throw new ArgumentException($"The pictures have {images.shape[1]} channels, the network takes {Channels}. Give it pictures of {Channels} or of one channel.", nameof(images));
        // (x / 2 + 1 / 2 − mean) / deviation, in one product and one sum.
        var scale = Row(i => 0.5 / Of(Deviation, i));
        var shift = Row(i => (0.5 - Of(Mean, i)) / Of(Deviation, i));
        return images.mul(scale).Plus(shift);

        Tensor Row(Func<int, double> value) => tensor([.. Enumerable.Range(0, Channels).Select(value)], [1, Channels, 1, 1], dtype: images.dtype, device: images.device);

        double Of(IReadOnlyList<double> values, int channel) => values.Count == 1 ? values[0] : values.Count == Channels ? values[channel]
            : throw new ArgumentException($"{values.Count} means or deviations for {Channels} channels. Give one for each, or one for all.");
    }
}
