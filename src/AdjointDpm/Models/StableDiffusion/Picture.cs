using System.Text.Json;
using AdjointDpm.Formats;
using SkiaSharp;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>Images as PNG files that say what they were made with.</summary>
public static class Picture
{
    /// <summary>Writes one image.</summary>
    /// <param name="path">The file; its folder is made when missing.</param>
    /// <param name="image">[3, H, W] or [1, H, W] in [-1, 1]; values beyond are cut off.</param>
    /// <param name="texts">Texts for the file. Default: none.</param>
    /// <exception cref="ArgumentException">The tensor is no image.</exception>
    public static void Write(string path, Tensor image, IReadOnlyList<KeyValuePair<string, string>>? texts = null)
    {
        ArgumentNullException.ThrowIfNull(image);
        if (image.dim() != 3 || image.shape[0] is not (1 or 3))
            throw new ArgumentException($"[{string.Join(", ", image.shape)}] is no image; images are [3, height, width] or [1, height, width].", nameof(image));
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        using Scalar least = -1.0, most = 1.0, half = 127.5;
        var bytes = image.to(float32).cpu().clamp(least, most).mul(half).add(tensor(127.5f)).round().to(ScalarType.Byte).expand(3, image.shape[1], image.shape[2]).permute(1, 2, 0).contiguous().data<byte>().ToArray();
        var (height, width) = ((int)image.shape[1], (int)image.shape[2]);
        using var bitmap = new SKBitmap(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque);
        bitmap.Pixels = [.. Enumerable.Range(0, width * height).Select(i => new SKColor(bytes[3 * i], bytes[(3 * i) + 1], bytes[(3 * i) + 2]))];
        using var png = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        File.WriteAllBytes(path, PngText.Add(png.AsSpan(), texts ?? []));
    }

    /// <summary>The text <c>parameters</c> of web interfaces, from which they read a picture's prompt and seed.</summary>
    /// <param name="prompt">The prompt.</param>
    /// <param name="negative">The negative prompt. Default: none.</param>
    /// <param name="about">Further <c>key: value</c> pairs, such as Steps, Sampler, CFG scale, Seed and Size; a last line counts from three on.</param>
    public static KeyValuePair<string, string> Parameters(string prompt, string? negative, IEnumerable<KeyValuePair<string, string>> about)
    {
        var line = string.Join(", ", about.Select(p => $"{p.Key}: {Quoted(p.Value)}"));
        return new("parameters", string.Join('\n', new[] { prompt, string.IsNullOrEmpty(negative) ? null : $"Negative prompt: {negative}", line }.Where(l => l is not null)));
    }

    private static string Quoted(string value) => value.AsSpan().IndexOfAny(",:\n") < 0 ? value : JsonSerializer.Serialize(value);
}
