using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>Drawings of coloured shapes with what they show in words. Owes nothing to any data set.</summary>
internal static class Shapes
{
    public const int Size = 64;

    private static readonly (string Name, float[] Rgb)[] Colours = [("red", [0.9f, 0.15f, 0.15f]), ("green", [0.15f, 0.65f, 0.25f]), ("blue", [0.15f, 0.3f, 0.9f]), ("yellow", [0.95f, 0.8f, 0.15f])];
    private static readonly string[] Kinds = ["square", "circle", "triangle"];
    private static readonly (string Name, float Grey)[] Grounds = [("white", 0.95f), ("dark", 0.12f)];
    private static readonly string[] Templates = ["a {0} {1} on a {2} ground", "a drawing of a {0} {1} on a {2} ground", "{0} {1}, {2} ground"];

    /// <summary>Every picture in words, in the first of the ways to say it.</summary>
    public static IReadOnlyList<string> Captions { get; } =
        [.. from ground in Grounds from kind in Kinds from colour in Colours select string.Format(Templates[0], colour.Name, kind, ground.Name)];

    /// <summary>Draws a batch: images [count, 3, 64, 64] in [-1, 1] and their captions.</summary>
    public static (Tensor Images, string[] Captions) Draw(int count, Random random)
    {
        var pixels = new float[count * 3 * Size * Size];
        var captions = new string[count];
        for (var n = 0; n < count; n++)
        {
            var (colour, kind, ground) = (random.Next(Colours.Length), random.Next(Kinds.Length), random.Next(Grounds.Length));
            captions[n] = string.Format(Templates[random.Next(Templates.Length)], Colours[colour].Name, Kinds[kind], Grounds[ground].Name);
            var (radius, shade) = (0.35f + 0.25f * random.NextSingle(), 0.9f + 0.1f * random.NextSingle());
            var (cx, cy) = ((1 - radius) * 0.7f * (2 * random.NextSingle() - 1), (1 - radius) * 0.7f * (2 * random.NextSingle() - 1));
            Paint(pixels.AsSpan(n * 3 * Size * Size, 3 * Size * Size), kind, [.. Colours[colour].Rgb.Select(c => c * shade)], Grounds[ground].Grey, radius, cx, cy);
        }

        return (tensor(pixels, [count, 3, Size, Size]), captions);
    }

    /// <summary>The reference of the recolouring example: a square in a colour that no caption has, on the dark ground. [3, 64, 64].</summary>
    public static Tensor Orange()
    {
        var pixels = new float[3 * Size * Size];
        Paint(pixels, 0, [0.95f, 0.45f, 0.1f], Grounds[1].Grey, 0.55f, 0, 0);
        return tensor(pixels, [3, Size, Size]);
    }

    private static void Paint(Span<float> pixels, int kind, float[] colour, float ground, float radius, float cx, float cy)
    {
        for (var i = 0; i < Size * Size; i++)
        {
            var (x, y) = ((i % Size + 0.5f) / Size * 2 - 1 - cx, (i / Size + 0.5f) / Size * 2 - 1 - cy);
            // One inside, zero outside, a pixel of ramp between.
            var cover = Math.Clamp(Inside(kind, x, y, radius) * Size / 2 + 0.5f, 0, 1);
            for (var c = 0; c < 3; c++)
                pixels[(c * Size * Size) + i] = 2 * (cover * colour[c] + (1 - cover) * ground) - 1;
        }
    }

    /// <summary>Distance to the edge, positive inside.</summary>
    private static float Inside(int kind, float x, float y, float radius) => kind switch
    {
        0 => 0.85f * radius - Math.Max(Math.Abs(x), Math.Abs(y)),
        1 => radius - MathF.Sqrt(x * x + y * y),
        _ => Math.Min(0.6f * radius - y, 0.5f * (y + radius) - 0.866f * Math.Abs(x)),
    };
}
