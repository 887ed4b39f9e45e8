using OxyPlot;
using OxyPlot.Annotations;
using OxyPlot.Axes;
using OxyPlot.Series;

namespace AdjointDpm.Figures;

/// <summary>Lines with their names beside their ends.</summary>
internal sealed class Chart(Theme theme, string across, string up)
{
    private const string Font = "Helvetica, Arial, Liberation Sans, sans-serif";
    private const double FontSize = 13, LabelHeight = 16;
    private static readonly OxyThickness Margins = new(78, 12, 150, 52);
    private static readonly MarkerType[] Markers = [MarkerType.Circle, MarkerType.Square, MarkerType.Triangle, MarkerType.Diamond];

    private readonly List<(string Name, DataPoint[] Points, bool Guide)> _lines = [];

    public required Scale X { get; init; }

    public required Scale Y { get; init; }

    /// <summary>A measured line. Points without a number are left out.</summary>
    public void Line(string name, double[] x, double[] y) => Add(name, x, y, guide: false);

    /// <summary>A line for the eye, such as a slope.</summary>
    public void Guide(string name, double[] x, double[] y) => Add(name, x, y, guide: true);

    public PlotModel Plot(double width, double height)
    {
        var model = new PlotModel { Background = theme.Paper, TextColor = theme.Ink, DefaultFont = Font, DefaultFontSize = FontSize, PlotMargins = Margins, Padding = new(0), PlotAreaBorderColor = theme.Muted, PlotAreaBorderThickness = new(1, 0, 0, 1) };
        model.Axes.Add(Titled(X.Axis(AxisPosition.Bottom), across));
        model.Axes.Add(Titled(Y.Axis(AxisPosition.Left), up));
        var number = 0;
        var labels = new List<Label>();
        foreach (var (name, points, guide) in _lines)
        {
            var colour = guide ? theme.Muted : theme.Lines[number % theme.Lines.Length];
            var line = new LineSeries { Color = colour, StrokeThickness = guide ? 1 : 2, LineStyle = guide ? LineStyle.Dash : LineStyle.Solid };
            if (!guide)
                (line.MarkerType, line.MarkerSize, line.MarkerFill, line.MarkerStroke) = (Markers[number++ % Markers.Length], 4, colour, theme.Paper);
            line.Points.AddRange(points);
            model.Series.Add(line);
            var end = points.MaxBy(p => p.X);
            labels.Add(new(name, end, colour, X.Share(end.X) * (width - Margins.Left - Margins.Right), (1 - Y.Share(end.Y)) * (height - Margins.Top - Margins.Bottom), guide));
        }

        foreach (var (label, moved) in Apart(labels))
            model.Annotations.Add(new EndLabel { Text = label.Name, TextPosition = label.At, Offset = new(9, moved - label.Up), TextColor = label.Colour, FontSize = label.Guide ? FontSize - 1 : FontSize, Stroke = OxyColors.Transparent, Padding = new(0), TextHorizontalAlignment = HorizontalAlignment.Left, TextVerticalAlignment = VerticalAlignment.Middle });
        return model;
    }

    private void Add(string name, double[] x, double[] y, bool guide)
    {
        var points = x.Zip(y, (a, b) => new DataPoint(X.Plotted(a), Y.Plotted(b))).Where(p => double.IsFinite(p.Y)).ToArray();
        if (points.Length > 0)
            _lines.Add((name, points, guide));
    }

    private Axis Titled(Axis axis, string title)
    {
        (axis.Title, axis.AxisTitleDistance, axis.TicklineColor, axis.AxislineColor) = (title, axis.IsHorizontal() ? 10 : 26, theme.Muted, theme.Muted);
        (axis.MajorGridlineStyle, axis.MajorGridlineColor, axis.TickStyle) = (LineStyle.Solid, theme.Grid, TickStyle.Outside);
        return axis;
    }

    /// <summary>Moves labels at neighbouring ends up or down until none covers another.</summary>
    private static (Label Label, double Up)[] Apart(List<Label> labels)
    {
        var placed = labels.OrderBy(l => l.Up).Select(l => (Label: l, l.Up)).ToArray();
        for (var sweep = 0; sweep < 200; sweep++)
        {
            for (var i = 0; i < placed.Length; i++)
            {
                for (var k = i + 1; k < placed.Length; k++)
                {
                    var overlap = LabelHeight - (placed[k].Up - placed[i].Up);
                    if (overlap <= 1e-9 || Math.Abs(placed[k].Label.Across - placed[i].Label.Across) > 110)
                        continue;
                    (placed[i].Up, placed[k].Up) = (placed[i].Up - (overlap / 2), placed[k].Up + (overlap / 2));
                }
            }
        }

        return placed;
    }

    // An annotation is cut at the axes; a label beside them must not be.
    private sealed class EndLabel : TextAnnotation
    {
        public override OxyRect GetClippingRect() => OxyRect.Everything;
    }

    private sealed record Label(string Name, DataPoint At, OxyColor Colour, double Across, double Up, bool Guide);
}
