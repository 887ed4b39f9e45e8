using SkiaSharp;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace AdjointDpm.Client.Rendering.Pictures;

/// <summary>A picture in a grid.</summary>
/// <param name="Label">What it is, for grids whose places do not say it.</param>
/// <param name="Picture">Picture.</param>
internal sealed record GridCell(string Label, SKBitmap Picture) : IDisposable
{
    public void Dispose() => Picture.Dispose();
}

/// <summary>Pictures in rows and columns, with what the rows and columns are. The same for the eye in a terminal and in a file.</summary>
/// <param name="Columns">Heads of the columns; empty when cells have labels of their own.</param>
/// <param name="Rows">Heads of the rows; empty when there are none.</param>
/// <param name="Wide">Cells of a row.</param>
/// <param name="Cells">Row after row; null where there is no picture.</param>
internal sealed record PictureGrid(IReadOnlyList<string> Columns, IReadOnlyList<string> Rows, int Wide, IReadOnlyList<GridCell?> Cells) : IDisposable
{
    /// <summary>Pixels between pictures, and of a letter's pixel.</summary>
    private const int Gap = 4, Scale = 2;

    /// <summary>Letters of a row's head.</summary>
    private const int MostOfHead = 24;

    private int High => (Cells.Count + Wide - 1) / Wide;

    private bool Labelled => Columns.Count == 0 && Rows.Count == 0;

    /// <summary>The whole as one picture with its heads.</summary>
    public SKBitmap Draw()
    {
        var (width, height) = (Cells.Max(cell => cell?.Picture.Width ?? 0), Cells.Max(cell => cell?.Picture.Height ?? 0));
        // Pictures of few pixels are as wide as a word.
        var factor = Math.Max(1, 96 / Math.Max(1, width));
        (width, height) = (width * factor, height * factor);
        var left = Rows.Count == 0 ? 0 : Rows.Max(row => PixelFont.Width(Head(row), Scale)) + Gap;
        var (top, above) = (Columns.Count == 0 ? 0 : PixelFont.Height(Scale), Labelled ? PixelFont.Height(Scale) : 0);
        var sheet = new SKBitmap(left + (Wide * (width + Gap)) - Gap, top + (High * (height + above + Gap)) - Gap);
        using var canvas = new SKCanvas(sheet);
        canvas.Clear(SKColors.White);
        for (var i = 0; i < Columns.Count; i++)
            PixelFont.Draw(canvas, PixelFont.Fit(Columns[i], width, Scale), left + (i * (width + Gap)), 0, Scale, SKColors.Black);
        for (var i = 0; i < Rows.Count; i++)
            PixelFont.Draw(canvas, Head(Rows[i]), 0, top + (i * (height + Gap)) + (height / 2) - (PixelFont.Height(Scale) / 2), Scale, SKColors.Black);
        for (var i = 0; i < Cells.Count; i++)
        {
            if (Cells[i] is not { } cell) continue;
            var (x, y) = (left + (i % Wide * (width + Gap)), top + (i / Wide * (height + above + Gap)));
            if (Labelled) PixelFont.Draw(canvas, PixelFont.Fit(cell.Label, width, Scale), x, y, Scale, SKColors.Black);
            canvas.DrawBitmap(cell.Picture, SKRect.Create(x, y + above, cell.Picture.Width * factor, cell.Picture.Height * factor));
        }

        return sheet;
    }

    /// <summary>The whole in characters, no wider than the terminal.</summary>
    public IRenderable Blocks(int columns)
    {
        var left = Rows.Count == 0 ? 0 : Math.Min(columns / 4, Rows.Max(row => Head(row).Length) + 1);
        var cell = Math.Max(4, ((columns - left + 1) / Wide) - 1);
        var segments = new List<Segment>();
        if (Columns.Count > 0) Line(new string(' ', left) + string.Join(' ', Columns.Select(column => Fit(column, cell))));
        for (var row = 0; row < High; row++)
        {
            var cells = Enumerable.Range(row * Wide, Math.Min(Wide, Cells.Count - (row * Wide))).Select(i => Cells[i]).ToList();
            if (Labelled) Line(string.Join(' ', cells.Select(one => Fit(one?.Label ?? "", cell))));
            var pictures = cells.Select(one => one is null ? [] : PictureView.Lines(one.Picture, cell)).ToList();
            for (var line = 0; line < pictures.Max(picture => picture.Count); line++)
            {
                if (left > 0) segments.Add(new Segment(Fit(line == 0 ? Head(Rows[row]) : "", left - 1) + " "));
                foreach (var picture in pictures)
                {
                    var shown = line < picture.Count ? picture[line] : [];
                    segments.AddRange(shown);
                    segments.Add(new Segment(new string(' ', cell + 1 - shown.Count)));
                }

                segments.Add(Segment.LineBreak);
            }
        }

        return PictureView.Of(segments, columns);

        void Line(string text)
        {
            segments.Add(new Segment(text.TrimEnd(), new Style(decoration: Decoration.Bold)));
            segments.Add(Segment.LineBreak);
        }
    }

    public void Dispose()
    {
        foreach (var cell in Cells) cell?.Dispose();
    }

    private static string Head(string text) => text.Length <= MostOfHead ? text : text[..(MostOfHead - 1)] + "~";

    /// <summary>A text of exactly so many characters.</summary>
    private static string Fit(string text, int width) => text.Length <= width ? text.PadRight(width) : width < 2 ? text[..width] : text[..(width - 1)] + "…";
}
