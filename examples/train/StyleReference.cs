using SkiaSharp;

namespace AdjointDpm.Train;

/// <summary>Draws the reference of the stylisation example: one glyph in a heavy, round stroke. Owes nothing to any data set.</summary>
internal static class StyleReference
{
    public static void Write(string path, int size, float stroke)
    {
        using var bitmap = new SKBitmap(size, size);
        using var canvas = new SKCanvas(bitmap);
        using var pen = new SKPaint { Color = SKColors.White, Style = SKPaintStyle.Stroke, IsAntialias = true, StrokeWidth = stroke };
        canvas.Clear(SKColors.Black);
        canvas.Scale(size / 28f);
        canvas.DrawOval(14, 9, 4.5f, 4.2f, pen);
        canvas.DrawOval(14, 18.5f, 5.5f, 5f, pen);
        using var data = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        using var file = File.Create(path);
        data.SaveTo(file);
    }
}
