using System.Text.Json;
using System.Text.RegularExpressions;
using AdjointDpm.Formats;
using SkiaSharp;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>Images as PNG files that say what they were made with.</summary>
public static partial class Picture
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
        var bytes = image.to(float32).cpu().clamp(least, most).mul(half).Plus(tensor(127.5f)).round().to(ScalarType.Byte).expand(3, image.shape[1], image.shape[2]).permute(1, 2, 0).contiguous().data<byte>().ToArray();
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

    /// <summary>What the text <c>parameters</c> of a picture says, of this program or of a web interface.</summary>
    /// <param name="text">The text.</param>
    /// <returns>prompt, negative prompt and the last line's pairs, in order; only the prompt where the last line has fewer than three.</returns>
    public static IReadOnlyList<KeyValuePair<string, string>> ReadParameters(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var lines = text.ReplaceLineEndings("\n").Split('\n').ToList();
        List<KeyValuePair<string, string>> about = [.. Pairs().Matches(lines[^1]).Select(m => KeyValuePair.Create(m.Groups["key"].Value.Trim(), Unquoted(m.Groups["value"].Value)))];
        if (about.Count >= 3)
            lines.RemoveAt(lines.Count - 1);
        else
            about.Clear();
        const string Negative = "Negative prompt:";
        var from = lines.FindIndex(l => l.StartsWith(Negative, StringComparison.Ordinal));
        var prompt = string.Join('\n', from < 0 ? lines : lines[..from]).Trim();
        List<KeyValuePair<string, string>> facts = [new("prompt", prompt)];
        if (from >= 0)
            facts.Add(new("negative", string.Join('\n', lines[from..])[Negative.Length..].Trim()));
        return [.. facts, .. about];
    }

    [GeneratedRegex("""\s*(?<key>[\w ][\w \-/]*):\s*(?<value>"(?:\\.|[^\\"])+"|[^,]*)(?:,|$)""", RegexOptions.CultureInvariant)]
    private static partial Regex Pairs();

    private static string Unquoted(string value)
    {
        if (!value.StartsWith('"'))
            return value.Trim();
        try
        {
            return JsonSerializer.Deserialize<string>(value) ?? value;
        }
        catch (JsonException)
        {
            return value;
        }
    }

    private static string Quoted(string value) => value.AsSpan().IndexOfAny(",:\n") < 0 ? value : JsonSerializer.Serialize(value);
}
