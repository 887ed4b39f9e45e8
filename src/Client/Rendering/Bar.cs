namespace AdjointDpm.Client.Rendering;

/// <summary>Progress bars and curves of block characters.</summary>
internal static class Bar
{
    private const string Levels = "▁▂▃▄▅▆▇█";

    /// <summary>Markup of a bar of <paramref name="width"/> characters.</summary>
    public static string Of(double fraction, int width)
    {
        var full = (int)Math.Round(Math.Clamp(double.IsNaN(fraction) ? 0 : fraction, 0, 1) * width);
        return $"[blue]{new string('━', full)}[/][grey]{new string('─', width - full)}[/]";
    }

    /// <summary>A curve of the values in <paramref name="width"/> characters, each the mean of its part; empty without values.</summary>
    public static string Curve(IReadOnlyList<double> values, int width)
    {
        var finite = values.Where(double.IsFinite).ToList();
        if (finite.Count == 0) return "";
        width = Math.Min(width, finite.Count);
        var means = Enumerable.Range(0, width)
            .Select(i => finite.Skip(i * finite.Count / width).Take(Math.Max(1, ((i + 1) * finite.Count / width) - (i * finite.Count / width))).Average()).ToList();
        var (low, high) = (means.Min(), means.Max());
        return string.Concat(means.Select(mean => Levels[high > low ? (int)Math.Round((mean - low) / (high - low) * (Levels.Length - 1)) : 0]));
    }
}
