using OxyPlot;

namespace AdjointDpm.Figures;

/// <summary>Colours of a figure on a light or a dark page. Lines differ in lightness and marker too, for readers who do not see all hues.</summary>
internal sealed record Theme(string Name, OxyColor Paper, OxyColor Ink, OxyColor Muted, OxyColor Grid, OxyColor[] Lines)
{
    public static Theme[] Both { get; } =
    [
        new("light", Colour("#ffffff"), Colour("#1f2328"), Colour("#6b7580"), Colour("#e4e8ec"), Colours("#0072b2 #d55e00 #008a63 #a6398b #7a6200 #5b4fc4 #1f2328")),
        new("dark", Colour("#0d1117"), Colour("#e6edf3"), Colour("#8d96a0"), Colour("#262d36"), Colours("#58a6ff #ff9e64 #3fcf8e #f08cc8 #e3c04b #b9a6ff #e6edf3")),
    ];

    private static OxyColor Colour(string hex) => OxyColor.Parse(hex);

    private static OxyColor[] Colours(string hex) => [.. hex.Split(' ').Select(Colour)];
}
