using System.Globalization;
using System.Text;
using SkiaSharp;

namespace AdjointDpm.Client.Rendering.Pictures;

/// <summary>Pictures as Sixel: bands of six rows, each colour in turn.</summary>
internal static class Sixel
{
    /// <summary>Colours that every such terminal has.</summary>
    private const int MostColors = 256;

    /// <summary>Levels of a channel where a picture has too many colours of its own.</summary>
    private const int Levels = 6;

    /// <summary>A picture as it is, pixel by pixel.</summary>
    public static string Of(SKBitmap picture)
    {
        var (width, height) = (picture.Width, picture.Height);
        var (palette, indices) = Colors(picture.Pixels, width, height);
        var text = new StringBuilder("\ePq");
        text.Append(CultureInfo.InvariantCulture, $"\"1;1;{width};{height}");
        for (var i = 0; i < palette.Count; i++)
            text.Append(CultureInfo.InvariantCulture, $"#{i};2;{Percent(palette[i].Red)};{Percent(palette[i].Green)};{Percent(palette[i].Blue)}");
        var bits = new byte[width];
        for (var top = 0; top < height; top += 6)
        {
            var rows = Math.Min(6, height - top);
            var used = new SortedSet<int>(indices.AsSpan(top * width, rows * width).ToArray());
            var first = true;
            foreach (var color in used)
            {
                Array.Clear(bits);
                for (var row = 0; row < rows; row++)
                    for (var x = 0; x < width; x++)
                        if (indices[((top + row) * width) + x] == color)
                            bits[x] |= (byte)(1 << row);
                // The next colour begins at the left of the same band.
                text.Append(first ? "" : "$").Append(CultureInfo.InvariantCulture, $"#{color}");
                Run(text, bits);
                first = false;
            }

            text.Append('-');
        }

        return text.Append("\e\\").ToString();
    }

    /// <summary>Equal columns in a row as their number and one of them.</summary>
    private static void Run(StringBuilder text, byte[] bits)
    {
        for (var x = 0; x < bits.Length;)
        {
            var end = x + 1;
            while (end < bits.Length && bits[end] == bits[x]) end++;
            var sign = (char)('?' + bits[x]);
            // Nothing at the end of a line need not be said.
            if (end == bits.Length && bits[x] == 0) break;
            if (end - x > 3) text.Append(CultureInfo.InvariantCulture, $"!{end - x}{sign}");
            else text.Append(sign, end - x);
            x = end;
        }
    }

    /// <summary>The picture's own colours, rounded where that makes them few enough; else a cube of them, and what is left of each pixel is given to those beside it.</summary>
    private static (List<SKColor> Palette, int[] Indices) Colors(SKColor[] pixels, int width, int height)
    {
        foreach (var kept in new byte[] { 0xff, 0xfc, 0xf8 })
        {
            var rounded = pixels.Select(pixel => new SKColor(Round(pixel.Red, kept), Round(pixel.Green, kept), Round(pixel.Blue, kept))).ToArray();
            var places = new Dictionary<SKColor, int>();
            foreach (var color in rounded)
                if (!places.ContainsKey(color) && places.Count <= MostColors) places[color] = places.Count;
            if (places.Count <= MostColors) return ([.. places.Keys], [.. rounded.Select(color => places[color])]);
        }

        var cube = Enumerable.Range(0, Levels * Levels * Levels).Select(i => new SKColor(Level(i / (Levels * Levels)), Level(i / Levels % Levels), Level(i % Levels))).ToList();
        return (cube, Dithered(pixels, width, height));
    }

    // Floyd and Steinberg 1976.
    private static int[] Dithered(SKColor[] pixels, int width, int height)
    {
        var (left, indices) = (pixels.SelectMany(pixel => new float[] { pixel.Red, pixel.Green, pixel.Blue }).ToArray(), new int[pixels.Length]);
        for (var y = 0; y < height; y++)
            for (var x = 0; x < width; x++)
            {
                var at = (y * width) + x;
                for (var channel = 0; channel < 3; channel++)
                {
                    var value = left[(3 * at) + channel];
                    var level = Math.Clamp((int)Math.Round(value * (Levels - 1) / 255), 0, Levels - 1);
                    indices[at] = (indices[at] * Levels) + level;
                    var error = value - Level(level);
                    Give(x + 1, y, channel, error * 7 / 16);
                    Give(x - 1, y + 1, channel, error * 3 / 16);
                    Give(x, y + 1, channel, error * 5 / 16);
                    Give(x + 1, y + 1, channel, error / 16);
                }
            }

        return indices;

        void Give(int x, int y, int channel, float error)
        {
            if (x >= 0 && x < width && y < height) left[(3 * ((y * width) + x)) + channel] += error;
        }
    }

    private static byte Level(int level) => (byte)(level * 255 / (Levels - 1));

    private static byte Round(byte value, byte kept) => kept == 0xff ? value : (byte)((value & kept) * 255 / kept);

    private static int Percent(byte value) => (value * 100 + 127) / 255;
}
