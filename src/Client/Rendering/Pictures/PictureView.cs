using AdjointDpm.Client.CommandLine;
using SkiaSharp;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace AdjointDpm.Client.Rendering.Pictures;

/// <summary>Pictures in a terminal, by its own protocol where it has one, else two pixels a character. Elsewhere their paths.</summary>
internal static class PictureView
{
    /// <summary>Wider ones are made smaller; more lines than a screen nobody looks at.</summary>
    private const int MostColumns = 160;

    /// <summary>Pixels that are sent at most in a row, and pixels of a column, about.</summary>
    private const int MostPixels = 1200, PixelsOfColumn = 8;

    /// <summary>A picture under its name; its path where colours cannot be shown, and nothing where there is none on this machine.</summary>
    public static void Show(ClientContext context, string name, string path)
    {
        if (!File.Exists(path)) return;
        context.Terminal.Line($"[bold]{Markup.Escape(name)}[/]  {Markup.Escape(context.Short(path))}");
        if (context.Terminal.Pictures == PictureProtocol.None) return;
        using var picture = SKBitmap.Decode(path);
        if (picture is not null) Show(context.Terminal, picture);
    }

    /// <summary>A picture as the terminal shows it.</summary>
    public static void Show(Terminal terminal, SKBitmap picture)
    {
        if (terminal.Pictures == PictureProtocol.Blocks)
        {
            terminal.Write(Of(picture, terminal.Out.Width));
            return;
        }

        using var smaller = Smaller(picture, MostPixels);
        var shown = smaller ?? picture;
        var columns = Math.Clamp((shown.Width + PixelsOfColumn - 1) / PixelsOfColumn, 1, Math.Max(1, terminal.Out.Width - 1));
        switch (terminal.Pictures)
        {
            case PictureProtocol.Sixel:
                terminal.WriteRaw(Sixel.Of(shown));
                break;
            case PictureProtocol.Kitty:
                terminal.WriteRaw(PictureBytes.Kitty(Png(shown), columns));
                break;
            case PictureProtocol.Iterm2:
                terminal.WriteRaw(PictureBytes.Iterm2(Png(shown), columns));
                break;
        }
    }

    /// <summary>A picture in at most so many columns, two pixels a character.</summary>
    public static IRenderable Of(SKBitmap picture, int columns)
    {
        var lines = new List<Segment>();
        var width = 0;
        foreach (var line in Lines(picture, columns))
        {
            lines.AddRange(line);
            lines.Add(Segment.LineBreak);
            width = line.Count;
        }

        return new Cells(lines, width);
    }

    /// <summary>The same line by line.</summary>
    public static IReadOnlyList<IReadOnlyList<Segment>> Lines(SKBitmap picture, int columns)
    {
        using var smaller = Smaller(picture, Math.Min(columns, MostColumns));
        var shown = smaller ?? picture;
        var lines = new List<IReadOnlyList<Segment>>();
        for (var row = 0; row < shown.Height; row += 2)
        {
            var line = new List<Segment>();
            for (var column = 0; column < shown.Width; column++)
            {
                var (upper, lower) = (shown.GetPixel(column, row), row + 1 < shown.Height ? shown.GetPixel(column, row + 1) : (SKColor?)null);
                line.Add(new Segment("▀", new Style(Of(upper), lower is { } color ? Of(color) : null)));
            }

            lines.Add(line);
        }

        return lines;
    }

    /// <summary>A renderable of segments.</summary>
    public static IRenderable Of(List<Segment> segments, int width) => new Cells(segments, width);

    /// <summary>Null for one that is no wider.</summary>
    private static SKBitmap? Smaller(SKBitmap picture, int width) => picture.Width <= width ? null
        : picture.Resize(new SKImageInfo(width, Math.Max(1, (int)Math.Round((double)picture.Height * width / picture.Width)), SKColorType.Rgba8888, SKAlphaType.Unpremul), SKFilterQuality.High);

    private static byte[] Png(SKBitmap picture)
    {
        using var encoded = picture.Encode(SKEncodedImageFormat.Png, 100);
        return encoded.ToArray();
    }

    private static Color Of(SKColor color) => new(color.Red, color.Green, color.Blue);

    private sealed class Cells(List<Segment> segments, int width) : Renderable
    {
        protected override Measurement Measure(RenderOptions options, int maxWidth) => new(width, width);

        protected override IEnumerable<Segment> Render(RenderOptions options, int maxWidth) => segments;
    }
}
