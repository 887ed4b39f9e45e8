using SkiaSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>A picture file as a tensor, shape [1, C, H, W], values in [-1, 1].</summary>
internal static class ReferenceImage
{
    public static Tensor Load(string path, long channels)
    {
        using var bitmap = SKBitmap.Decode(path)
            ?? throw new InvalidDataException($"'{path}' is not a picture that can be read. Use PNG, JPEG or WebP.");
        if (channels is not (1 or 3))
            throw new NotSupportedException($"'{path}' cannot be a reference for a model with {channels} channels; pictures have 1 or 3.");
        var (height, width, pixels) = (bitmap.Height, bitmap.Width, bitmap.Pixels);
        var values = new float[channels * pixels.Length];
        for (var at = 0; at < pixels.Length; at++)
        {
            var pixel = pixels[at];
            if (channels == 1)
            {
                values[at] = (0.299f * pixel.Red + 0.587f * pixel.Green + 0.114f * pixel.Blue) / 127.5f - 1;
            }
            else
            {
                values[at] = pixel.Red / 127.5f - 1;
                values[pixels.Length + at] = pixel.Green / 127.5f - 1;
                values[(2 * pixels.Length) + at] = pixel.Blue / 127.5f - 1;
            }
        }
        return tensor(values).reshape(1, channels, height, width);
    }
}
