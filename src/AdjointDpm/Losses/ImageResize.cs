using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>What a resize weighs pixels by.</summary>
public enum ResizeFilter
{
    /// <summary>A triangle, PIL's <c>BILINEAR</c>.</summary>
    Bilinear,

    /// <summary>A cubic with a = −½, PIL's <c>BICUBIC</c>, which CLIP was trained and is used with. May go beyond the range of the picture.</summary>
    Bicubic,
}

/// <summary>Differentiable resizing as PIL and torchvision do it.</summary>
public static class ImageResize
{
    /// <summary>Resizes pictures. Where they shrink, the filter is as wide as a new pixel (antialiasing), so that no old pixel is passed over and each has a gradient.</summary>
    /// <param name="images">[B, C, H, W], float32 or float64.</param>
    /// <param name="height">New height in pixels.</param>
    /// <param name="width">New width in pixels.</param>
    /// <param name="filter">What pixels are weighed by. Default: a triangle.</param>
    /// <returns>[B, C, height, width] of the same dtype, in the current dispose scope; the pictures themselves (an alias) if they have this size.</returns>
    /// <remarks>
    /// torchvision's <c>resize(antialias=True)</c>, PyTorch's <c>interpolate(antialias=True, align_corners=False)</c>: PIL's filters and places of pixels, in floating point where PIL rounds to eighths of bits
    /// between its passes. Without antialiasing a picture shrunk eightfold would have a gradient at one pixel of sixteen only.
    /// </remarks>
    /// <exception cref="ArgumentException">The pictures have not four dimensions, or the new size is below 1.</exception>
    public static Tensor To(Tensor images, long height, long width, ResizeFilter filter = ResizeFilter.Bilinear)
    {
        if (images.dim() != 4 || height < 1 || width < 1)
            throw new ArgumentException($"Pictures [{string.Join(", ", images.shape)}] cannot be resized to {height} × {width}: give [B, C, H, W] and a size above 0.", nameof(images));
        if (images.shape[2] == height && images.shape[3] == width)
            return images.alias();
        var mode = filter == ResizeFilter.Bilinear ? InterpolationMode.Bilinear : InterpolationMode.Bicubic;
        return nn.functional.interpolate(images, [height, width], mode: mode, align_corners: false, antialias: true);
    }
}
