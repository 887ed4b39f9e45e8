using System.Globalization;
using System.Text;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>The training loss over the steps as a small SVG that reads on light and dark pages.</summary>
internal static class LossCurve
{
    private const double Width = 640, Height = 300, Left = 70, Right = 16, Top = 16, Bottom = 46;

    public static void Write(string path, IReadOnlyList<double> losses)
    {
        var finite = losses.Where(double.IsFinite).DefaultIfEmpty(0).ToList();
        var (low, high) = (finite.Min(), finite.Max());
        if (high - low < 1e-12)
            (low, high) = (low - 0.5, high + 0.5);
        var svg = new StringBuilder();
        svg.Append(CultureInfo.InvariantCulture, $"""
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {Width} {Height}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="Training loss by step">
            <style>text{"{fill:#555}"} .axis{"{stroke:#888;fill:none}"} .grid{"{stroke:#8884;fill:none}"} .loss{"{stroke:#1f77b4;stroke-width:2;fill:none;stroke-linejoin:round}"} @media (prefers-color-scheme: dark){"{text{fill:#bbb} .loss{stroke:#6cb6ff}}"}</style>

            """);
        for (var i = 0; i <= 4; i++)
        {
            var value = low + (high - low) * i / 4;
            svg.Append(CultureInfo.InvariantCulture, $"<path class=\"grid\" d=\"M{Left} {Y(value):f1}H{Width - Right}\"/><text x=\"{Left - 6}\" y=\"{Y(value) + 4:f1}\" text-anchor=\"end\">{value:g4}</text>\n");
        }
        foreach (var step in new[] { 1, (losses.Count + 1) / 2, losses.Count }.Where(step => step > 0).Distinct())
            svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{X(step - 1):f1}\" y=\"{Height - Bottom + 16}\" text-anchor=\"middle\">{step}</text>\n");
        svg.Append(CultureInfo.InvariantCulture, $"<path class=\"axis\" d=\"M{Left} {Top}V{Height - Bottom}H{Width - Right}\"/>\n");
        svg.Append(CultureInfo.InvariantCulture, $"<text x=\"{(Left + Width - Right) / 2}\" y=\"{Height - 8}\" text-anchor=\"middle\">step</text>\n");
        svg.Append(CultureInfo.InvariantCulture, $"<text transform=\"translate(14 {(Top + Height - Bottom) / 2}) rotate(-90)\" text-anchor=\"middle\">training loss</text>\n");
        var points = losses.Select((loss, i) => (loss, i)).Where(p => double.IsFinite(p.loss)).Select(p => string.Create(CultureInfo.InvariantCulture, $"{X(p.i):f1},{Y(p.loss):f1}"));
        svg.Append("<polyline class=\"loss\" points=\"").AppendJoin(' ', points).Append("\"/>\n</svg>\n");
        File.WriteAllText(path, svg.ToString());

        double X(int i) => Left + (Width - Left - Right) * (losses.Count < 2 ? 0.5 : (double)i / (losses.Count - 1));
        double Y(double loss) => Top + (Height - Top - Bottom) * (1 - (loss - low) / (high - low));
    }
}
