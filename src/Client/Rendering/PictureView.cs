using AdjointDpm.Client.CommandLine;
using SkiaSharp;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace AdjointDpm.Client.Rendering;

/// <summary>Pictures in a terminal, two pixels a character: they go over any connection and through any multiplexer. Elsewhere their paths.</summary>
internal static class PictureView
{
    /// <summary>Wider ones are made smaller; more lines than a screen nobody looks at.</summary>
    private const int MostColumns = 160;

    /// <summary>A picture under its name; its path where colours cannot be shown, and nothing where there is none on this machine.</summary>
    public static void Show(ClientContext context, string name, string path)
    {
        if (!File.Exists(path)) return;
        context.Terminal.Line($"[bold]{Markup.Escape(name)}[/]  {Markup.Escape(context.Short(path))}");
        if (!context.Terminal.Out.ShowsPictures) return;
        using var picture = SKBitmap.Decode(path);
        if (picture is not null) context.Terminal.Write(Of(picture, context.Terminal.Out.Width));
    }

    /// <summary>A picture in at most so many columns.</summary>
    public static IRenderable Of(SKBitmap picture, int columns)
    {
        var width = Math.Min(Math.Min(columns, MostColumns), picture.Width);
        var height = Math.Max(1, (int)Math.Round((double)picture.Height * width / picture.Width));
        using var small = width == picture.Width ? null : picture.Resize(new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Unpremul), SKFilterQuality.High);
        var shown = small ?? picture;
        var lines = new List<Segment>();
        for (var row = 0; row < shown.Height; row += 2)
        {
            for (var column = 0; column < shown.Width; column++)
            {
                var (upper, lower) = (shown.GetPixel(column, row), row + 1 < shown.Height ? shown.GetPixel(column, row + 1) : (SKColor?)null);
                lines.Add(new Segment("▀", new Style(Of(upper), lower is { } color ? Of(color) : null)));
            }

            lines.Add(Segment.LineBreak);
        }

        return new Cells(lines, shown.Width);
    }

    private static Color Of(SKColor color) => new(color.Red, color.Green, color.Blue);

    private sealed class Cells(List<Segment> segments, int width) : Renderable
    {
        protected override Measurement Measure(RenderOptions options, int maxWidth) => new(width, width);

        protected override IEnumerable<Segment> Render(RenderOptions options, int maxWidth) => segments;
    }
}
