using SkiaSharp;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Samples as numbers: sample after sample, [channel, row, column], in [-1, 1].</summary>
internal sealed record SheetPixels(float[] Values, int Channels, int Height, int Width)
{
    public int Count => Values.Length / (Channels * Height * Width);
}

/// <summary>Pictures of samples before and after training, from the same seeds: <c>before.png</c>, <c>after.png</c> and both one above the other.</summary>
internal static class SampleSheet
{
    /// <summary>Side of a sample on the sheet, about; samples are enlarged by whole factors so that pixels stay pixels.</summary>
    private const int Side = 96;

    private static readonly SKColor Paper = new(0xf4, 0xf4, 0xf4);
    private static readonly SKColor BeforeLine = new(0x8a, 0x8a, 0x8a);
    private static readonly SKColor AfterLine = new(0x1f, 0x77, 0xb4);

    public static void Write(string folder, SheetPixels before, SheetPixels after, int columns)
    {
        using var upper = Draw(before, columns, BeforeLine);
        using var lower = Draw(after, columns, AfterLine);
        Save(upper, Path.Combine(folder, "before.png"));
        Save(lower, Path.Combine(folder, "after.png"));
        var gap = Scale(before) * 4;
        using var both = new SKBitmap(upper.Width, upper.Height + gap + lower.Height);
        using (var canvas = new SKCanvas(both))
        {
            canvas.Clear(SKColors.White);
            canvas.DrawBitmap(upper, 0, 0);
            canvas.DrawBitmap(lower, 0, upper.Height + gap);
        }
        Save(both, Path.Combine(folder, "before-after.png"));
    }

    /// <summary>Samples on the way, as <c>after.png</c> shows those at the end.</summary>
    public static byte[] Row(SheetPixels samples, int columns)
    {
        using var sheet = Draw(samples, columns, AfterLine);
        using var data = sheet.Encode(SKEncodedImageFormat.Png, 100);
        return data.ToArray();
    }

    /// <summary>Only what is too small to be seen is enlarged.</summary>
    private static int Scale(SheetPixels samples) => Math.Max(1, (int)Math.Round((double)Side / Math.Max(samples.Height, samples.Width)));

    /// <summary>A grid of samples with a line on top that tells the halves apart: grey before, blue after.</summary>
    private static SKBitmap Draw(SheetPixels samples, int columns, SKColor line)
    {
        var (scale, margin) = (Scale(samples), 4);
        var (cellWidth, cellHeight) = (samples.Width * scale + margin, samples.Height * scale + margin);
        var rows = (samples.Count + columns - 1) / columns;
        var sheet = new SKBitmap(columns * cellWidth + margin, rows * cellHeight + 2 * margin);
        using var canvas = new SKCanvas(sheet);
        canvas.Clear(Paper);
        using var paint = new SKPaint { Color = line };
        canvas.DrawRect(0, 0, sheet.Width, margin, paint);
        for (var i = 0; i < samples.Count; i++)
        {
            var (left, top) = (margin + i % columns * cellWidth, 2 * margin + i / columns * cellHeight);
            using var picture = Picture(samples, i);
            // Without a filter, so that a pixel stays a square.
            canvas.DrawBitmap(picture, SKRect.Create(left, top, samples.Width * scale, samples.Height * scale));
        }
        return sheet;
    }

    private static SKBitmap Picture(SheetPixels samples, int sample)
    {
        var (plane, first) = (samples.Height * samples.Width, sample * samples.Channels * samples.Height * samples.Width);
        // Of one or two channels the first is grey.
        var (green, blue) = samples.Channels >= 3 ? (plane, 2 * plane) : (0, 0);
        var colors = new SKColor[plane];
        for (var i = 0; i < plane; i++)
            colors[i] = new SKColor(Byte(samples.Values[first + i]), Byte(samples.Values[first + green + i]), Byte(samples.Values[first + blue + i]));
        return new SKBitmap(new SKImageInfo(samples.Width, samples.Height, SKColorType.Rgba8888, SKAlphaType.Opaque)) { Pixels = colors };
    }

    private static byte Byte(float value) => float.IsNaN(value) ? (byte)0 : (byte)Math.Clamp(Math.Round((value + 1) * 127.5), 0, 255);

    private static void Save(SKBitmap bitmap, string path)
    {
        using var data = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        using var file = File.Create(path);
        data.SaveTo(file);
    }
}
