using System.Globalization;
using System.Xml.Linq;

namespace AdjointDpm.Grains.Pages;

/// <summary>A line of a chart.</summary>
/// <param name="Name">For those who cannot see it, and under the pointer.</param>
/// <param name="Points">Points.</param>
/// <param name="Best">Whether it is the one to look at.</param>
internal sealed record ChartLine(string Name, IReadOnlyList<(double X, double Y)> Points, bool Best);

/// <summary>A dot of a chart.</summary>
internal sealed record ChartDot(string Name, double X, double Y, bool Best);

/// <summary>The mean of what lies in a part of a parameter's range.</summary>
/// <param name="From">Its smallest value.</param>
/// <param name="To">Its largest.</param>
/// <param name="Mean">Mean.</param>
/// <param name="Error">Standard error of the mean; 0 of one alone.</param>
/// <param name="Count">How many there are.</param>
internal sealed record ChartMean(double From, double To, double Mean, double Error, int Count);

/// <summary>Charts as SVG inside the page. Their colours are the page's, so that they follow light, dark and paper; plotting packages write colours of their own.</summary>
internal static class Chart
{
    private const double Width = 640, Height = 280, Left = 66, Right = 16, Top = 14, Bottom = 38;

    /// <summary>Lines over steps, and dots beside them.</summary>
    public static XElement Lines(string title, string x, IReadOnlyList<ChartLine> lines, IReadOnlyList<ChartDot> dots)
    {
        var points = lines.SelectMany(line => line.Points).Concat(dots.Select(dot => (dot.X, dot.Y))).Where(IsFinite).ToList();
        var (horizontal, vertical) = (Axis.Of(points.Select(point => point.Item1), log: false), Axis.Of(points.Select(point => point.Item2), log: null));
        return Svg(title,
            Frame(horizontal, vertical, x),
            lines.OrderBy(line => line.Best).Select(line => new XElement("polyline", new XAttribute("class", line.Best ? "line best" : "line"), new XAttribute("points", Points(line.Points.Where(IsFinite), horizontal, vertical)), Tip(line.Name))),
            dots.Where(dot => IsFinite((dot.X, dot.Y))).Select(dot => Dot(dot, horizontal, vertical)));
    }

    /// <summary>A way through the plane: from a ring to a full dot.</summary>
    /// <param name="title">For those who cannot see it.</param>
    /// <param name="x">What lies to the right.</param>
    /// <param name="y">What lies upwards.</param>
    /// <param name="points">Points in order, each with its name.</param>
    public static XElement Way(string title, string x, string y, IReadOnlyList<(string Name, double X, double Y)> points)
    {
        var (horizontal, vertical) = (Axis.Of(points.Select(point => point.X), log: null), Axis.Of(points.Select(point => point.Y), log: null));
        return Svg(title,
            Frame(horizontal, vertical, x),
            new XElement("polyline", new XAttribute("class", "line"), new XAttribute("points", Points(points.Select(point => (point.X, point.Y)), horizontal, vertical))),
            points.Select((point, i) =>
            {
                var dot = Dot(new ChartDot(point.Name, point.X, point.Y, Best: i == points.Count - 1), horizontal, vertical);
                if (i == 0)
                    dot.SetAttributeValue("class", "dot ring");
                return dot;
            }),
            Text(Left + 4, Top + 2, "start", y));
    }

    /// <summary>A number by a parameter: the mean of each part of its range with its standard error and how many there are, over pale dots.</summary>
    /// <param name="title">For those who cannot see it.</param>
    /// <param name="x">Parameter.</param>
    /// <param name="dots">Dots; perhaps not all that the means are of.</param>
    /// <param name="parts">Parts from left to right.</param>
    /// <param name="categories">Names of values, of which a dot's place is the index; null for a scale.</param>
    public static XElement Means(string title, string x, IReadOnlyList<ChartDot> dots, IReadOnlyList<ChartMean> parts, IReadOnlyList<string>? categories)
    {
        var vertical = Axis.Of(dots.Select(dot => dot.Y).Concat(parts.SelectMany(part => new[] { part.Mean - part.Error, part.Mean + part.Error })), log: null);
        var horizontal = categories is null ? Axis.Of(dots.Select(dot => dot.X).Concat(parts.SelectMany(part => new[] { part.From, part.To })), log: null) : Axis.Categories(categories);
        double X(double value) => Left + horizontal.At(value) * (Width - Left - Right);
        double Y(double value) => Height - Bottom - vertical.At(value) * (Height - Bottom - Top);
        return Svg(title,
            Frame(horizontal, vertical, x),
            dots.OrderBy(dot => dot.Best).Select(dot => Dot(dot, horizontal, vertical)),
            parts.Select(part =>
            {
                // Of one value a stroke as long as a word.
                var (from, to) = X(part.To) - X(part.From) < 16 ? ((X(part.From) + X(part.To)) / 2 - 14, (X(part.From) + X(part.To)) / 2 + 14) : (X(part.From), X(part.To));
                var middle = (from + to) / 2;
                return new XElement("g",
                    new XElement("path", new XAttribute("class", "line best"), new XAttribute("d", $"M{N(from)} {N(Y(part.Mean))}H{N(to)}"), Tip($"mean {Words.Number(part.Mean)} ± {Words.Number(part.Error)}, n = {part.Count}")),
                    part.Error > 0 ? new XElement("path", new XAttribute("class", "line best"), new XAttribute("d", $"M{N(middle)} {N(Y(part.Mean - part.Error))}V{N(Y(part.Mean + part.Error))}")) : null,
                    Text(middle, Top + 2, "middle", string.Create(CultureInfo.InvariantCulture, $"n {part.Count}"), "tick"));
            }));
    }

    /// <summary>Dots over a parameter, by a logarithmic scale where that is more even.</summary>
    public static XElement Dots(string title, string x, IReadOnlyList<ChartDot> dots, IReadOnlyList<string>? categories = null)
    {
        var vertical = Axis.Of(dots.Select(dot => dot.Y), log: null);
        var horizontal = categories is null ? Axis.Of(dots.Select(dot => dot.X), log: null) : Axis.Categories(categories);
        return Svg(title, Frame(horizontal, vertical, x), dots.OrderBy(dot => dot.Best).Select(dot => Dot(dot, horizontal, vertical)));
    }

    /// <summary>Trials by two objectives, and the line along the best of them.</summary>
    /// <param name="x">Objective to the right.</param>
    /// <param name="y">Objective upwards.</param>
    /// <param name="dots">Trials; the best are those of the Pareto front.</param>
    /// <param name="connected">Whether there are only these two objectives, so that the front is a line.</param>
    public static XElement Front(string x, string y, IReadOnlyList<ChartDot> dots, bool connected)
    {
        var (horizontal, vertical) = (Axis.Of(dots.Select(dot => dot.X), log: null), Axis.Of(dots.Select(dot => dot.Y), log: null));
        return Svg($"{y} by {x}",
            Frame(horizontal, vertical, x),
            connected ? new XElement("polyline", new XAttribute("class", "line best"), new XAttribute("points", Points(dots.Where(dot => dot.Best).OrderBy(dot => dot.X).Select(dot => (dot.X, dot.Y)), horizontal, vertical)), Tip("Pareto front")) : null,
            dots.OrderBy(dot => dot.Best).Select(dot => Dot(dot, horizontal, vertical)),
            Text(Left + 4, Top + 2, "start", y));
    }

    /// <summary>At most so many of the values, evenly chosen, the first and the last among them.</summary>
    public static IReadOnlyList<T> Thin<T>(IReadOnlyList<T> values, int most) =>
        values.Count <= most ? values : [.. Enumerable.Range(0, most).Select(i => values[(int)((long)i * (values.Count - 1) / (most - 1))])];

    /// <summary>A line for each trial through its value of each parameter, and of the objective.</summary>
    /// <param name="title">For those who cannot see it.</param>
    /// <param name="axes">Name, and its distinct values when they are words.</param>
    /// <param name="rows">Name, place on every axis (of words: their index), whether it is the best.</param>
    public static XElement Parallel(string title, IReadOnlyList<(string Name, IReadOnlyList<string>? Words)> axes, IReadOnlyList<(string Name, double[] Values, bool Best)> rows)
    {
        var scales = axes.Select((axis, i) => axis.Words is { } words ? Axis.Categories(words) : Axis.Of(rows.Select(row => row.Values[i]), log: null)).ToArray();
        double X(int i) => axes.Count == 1 ? Width / 2 : Left + 20 + i * (Width - Left - Right - 60) / (axes.Count - 1);
        double Y(int i, double value) => Height - Bottom - scales[i].At(value) * (Height - Bottom - Top - 12);
        return Svg(title,
            axes.Select((axis, i) => new object[]
            {
                new XElement("path", new XAttribute("class", "axis"), new XAttribute("d", $"M{N(X(i))} {N(Top + 12)}V{N(Height - Bottom)}")),
                Text(X(i), Height - Bottom + 18, "middle", axis.Name),
                scales[i].Ticks.Select(tick => Text(X(i) + 5, Height - Bottom - tick.At * (Height - Bottom - Top - 12) - 4, "start", tick.Label, "tick")),
            }),
            rows.OrderBy(row => row.Best).Select(row => new XElement("polyline", new XAttribute("class", row.Best ? "line best" : "line"),
                new XAttribute("points", string.Join(' ', row.Values.Select((value, i) => $"{N(X(i))},{N(Y(i, value))}"))), Tip(row.Name))));
    }

    /// <summary>Numbers by row and column as cells that are the fuller the larger, from zero; by a logarithmic scale from the smallest where that is more even. A legend says which.</summary>
    /// <param name="title">For those who cannot see it.</param>
    /// <param name="x">What the columns are.</param>
    /// <param name="columns">Name of each, and its numbers from the top down.</param>
    /// <param name="rows">Name of each row.</param>
    public static XElement Heat(string title, string x, IReadOnlyList<(string Name, IReadOnlyList<double> Values)> columns, IReadOnlyList<string> rows)
    {
        const int Shades = 5;
        var positive = columns.SelectMany(column => column.Values).Where(value => value > 0 && double.IsFinite(value)).ToList();
        var (least, most) = positive.Count == 0 ? (0, 1) : (positive.Min(), positive.Max());
        var log = least > 0 && most / least > Axis.Wide;
        // A pale cell must be a small number: from the smallest up, numbers that are nearly equal would look like all and nothing.
        double Fullness(double value) => !(value > 0) || !double.IsFinite(value) ? 0 : log ? 0.08 + (0.92 * Math.Log(value / least) / Math.Log(most / least)) : value / most;
        double Shade(int i) => log ? least * Math.Pow(most / least, i / (Shades - 1.0)) : most * i / (Shades - 1);
        XElement Cell(double x, double y, double width, double height, double value, string tip) => new("rect", new XAttribute("class", "heat"),
            new XAttribute("x", N(x)), new XAttribute("y", N(y)), new XAttribute("width", N(width)), new XAttribute("height", N(height)),
            new XAttribute("fill-opacity", Math.Clamp(Fullness(value), 0, 1).ToString("0.00", CultureInfo.InvariantCulture)), Tip(tip));
        var (wide, high) = ((Width - Left - Right) / Math.Max(1, columns.Count), (Height - Bottom - Top) / Math.Max(1, rows.Count));
        var (everyRow, everyColumn) = (Math.Max(1, (rows.Count + 11) / 12), Math.Max(1, (columns.Count + 11) / 12));
        return Svg(title,
            rows.Select((row, i) => i % everyRow == 0 || i == rows.Count - 1 ? Text(Left - 6, Top + (i + 0.5) * high + 4, "end", row, "tick") : null),
            columns.Select((column, i) => i % everyColumn == 0 ? Text(Left + (i + 0.5) * wide, Height - Bottom + 16, "middle", column.Name, "tick") : null),
            Text(Left, Height - 4, "start", x),
            columns.Select((column, i) => column.Values.Select((value, k) => Cell(Left + i * wide, Top + k * high, wide + 0.3, high + 0.3, value, $"{x} {column.Name}, {rows[k]}: {Words.Number(value)}"))),
            new XElement("g", new XAttribute("class", "legend"),
                Text(Width - Right - 150 - (Shades * 16), Height - 4, "end", log ? "logarithmic " : "from zero "),
                Text(Width - Right - 96 - (Shades * 16), Height - 4, "end", Words.Number(Shade(0)), "tick"),
                Enumerable.Range(0, Shades).Select(i => Cell(Width - Right - 90 + ((i - Shades) * 16), Height - 14, 16, 11, Shade(i), Words.Number(Shade(i)))),
                Text(Width - Right - 84, Height - 4, "start", Words.Number(most), "tick")));
    }

    /// <summary>A bar for each row, of parts after one another.</summary>
    /// <param name="title">For those who cannot see it.</param>
    /// <param name="x">Unit.</param>
    /// <param name="parts">Names of the parts.</param>
    /// <param name="rows">Name of each row, and its parts.</param>
    public static XElement Bars(string title, string x, IReadOnlyList<string> parts, IReadOnlyList<(string Name, IReadOnlyList<double> Parts)> rows)
    {
        const double Names = 150, Bar = 22;
        const int LegendsInALine = 5;
        var head = 8 + 18 * ((parts.Count + LegendsInALine - 1) / LegendsInALine);
        var (height, most) = (head + rows.Count * Bar + 30, rows.Count == 0 ? 1 : Math.Max(1e-9, rows.Max(row => row.Parts.Sum())));
        double At(double value) => Names + value / most * (Width - Names - Right - 72);
        var legend = parts.Select((part, i) => new object[]
        {
            new XElement("rect", new XAttribute("class", $"part{i}"), new XAttribute("x", N(Names + i % LegendsInALine * 95)), new XAttribute("y", N(4 + i / LegendsInALine * 18)), new XAttribute("width", "12"), new XAttribute("height", "12")),
            Text(Names + i % LegendsInALine * 95 + 16, 14 + i / LegendsInALine * 18, "start", part),
        });
        return new XElement("svg", new XAttribute("viewBox", $"0 0 {Width} {N(height)}"), new XAttribute("role", "img"), new XAttribute("aria-label", title), legend,
            rows.Select((row, k) => new object[]
            {
                Text(Names - 6, head + k * Bar + 14, "end", row.Name.Length > 22 ? "…" + row.Name[^21..] : row.Name, "tick"),
                row.Parts.Select((part, i) => new XElement("rect", new XAttribute("class", $"part{i}"), new XAttribute("x", N(At(row.Parts.Take(i).Sum()))), new XAttribute("y", N(head + k * Bar + 3)),
                    new XAttribute("width", N(At(part) - At(0))), new XAttribute("height", N(Bar - 6)), Tip($"{row.Name}, {parts[i]}: {Words.Number(part)} {x}"))),
                Text(At(row.Parts.Sum()) + 5, head + k * Bar + 14, "start", $"{Words.Number(row.Parts.Sum())} {x}", "tick"),
            }));
    }

    /// <summary>A curve as small as a word.</summary>
    public static XElement Spark(string title, IReadOnlyList<double> values)
    {
        const double Wide = 90, High = 20;
        var finite = values.Where(double.IsFinite).ToList();
        var (least, most) = finite.Count == 0 ? (0, 1) : (finite.Min(), finite.Max());
        var points = finite.Select((value, i) => $"{N(2 + i * (Wide - 4) / Math.Max(1, finite.Count - 1))},{N(High - 2 - (most > least ? (value - least) / (most - least) : 0.5) * (High - 4))}");
        return new XElement("svg", new XAttribute("class", "spark"), new XAttribute("viewBox", $"0 0 {Wide} {High}"), new XAttribute("role", "img"), new XAttribute("aria-label", title),
            new XElement("polyline", new XAttribute("class", "line best"), new XAttribute("points", string.Join(' ', points))));
    }

    private static XElement Svg(string title, params object?[] content) => new("svg",
        new XAttribute("viewBox", $"0 0 {Width} {Height}"), new XAttribute("role", "img"), new XAttribute("aria-label", title), content);

    private static object[] Frame(Axis horizontal, Axis vertical, string x) =>
    [
        vertical.Ticks.Select(tick =>
        {
            var y = Height - Bottom - tick.At * (Height - Bottom - Top);
            return new object[] { new XElement("path", new XAttribute("class", "grid"), new XAttribute("d", $"M{Left} {N(y)}H{Width - Right}")), Text(Left - 6, y + 4, "end", tick.Label, "tick") };
        }),
        horizontal.Ticks.Select(tick => Text(Left + tick.At * (Width - Left - Right), Height - Bottom + 16, "middle", tick.Label, "tick")),
        Text((Left + Width - Right) / 2, Height - 4, "middle", x),
    ];

    private static XElement Dot(ChartDot dot, Axis horizontal, Axis vertical)
    {
        var (x, y) = (Left + horizontal.At(dot.X) * (Width - Left - Right), Height - Bottom - vertical.At(dot.Y) * (Height - Bottom - Top));
        return new XElement("circle", new XAttribute("class", dot.Best ? "dot best" : "dot"), new XAttribute("cx", N(x)), new XAttribute("cy", N(y)), new XAttribute("r", dot.Best ? 5 : 3.5), Tip(dot.Name));
    }

    private static string Points(IEnumerable<(double X, double Y)> points, Axis horizontal, Axis vertical) =>
        string.Join(' ', points.Select(point => $"{N(Left + horizontal.At(point.X) * (Width - Left - Right))},{N(Height - Bottom - vertical.At(point.Y) * (Height - Bottom - Top))}"));

    private static XElement Tip(string text) => new("title", text);

    private static XElement Text(double x, double y, string anchor, string text, string kind = "label") =>
        new("text", new XAttribute("x", N(x)), new XAttribute("y", N(y)), new XAttribute("text-anchor", anchor), new XAttribute("class", kind), text);

    private static bool IsFinite((double X, double Y) point) => double.IsFinite(point.X) && double.IsFinite(point.Y);

    private static string N(double value) => value.ToString("0.#", CultureInfo.InvariantCulture);

    /// <summary>Where a value lies between the ends, and what is written there.</summary>
    private sealed record Axis(Func<double, double> At, IReadOnlyList<(double At, string Label)> Ticks)
    {
        /// <summary>Above this ratio of largest to smallest a scale is logarithmic.</summary>
        public const double Wide = 50;

        public static Axis Of(IEnumerable<double> all, bool? log)
        {
            var values = all.Where(double.IsFinite).ToList();
            var (least, most) = values.Count == 0 ? (0, 1) : (values.Min(), values.Max());
            if (log ?? (least > 0 && most / least > Wide))
            {
                var spread = Math.Log10(most / least) * 0.03;
                var (low, high) = (Math.Log10(least) - spread, Math.Log10(most) + spread);
                var powers = Enumerable.Range((int)Math.Ceiling(low - 1e-9), Math.Max(0, (int)Math.Floor(high + 1e-9) - (int)Math.Ceiling(low - 1e-9) + 1)).Select(power => Math.Pow(10, power)).ToList();
                var marks = powers.Count is >= 2 and <= 8 ? powers : [least, Math.Sqrt(least * most), most];
                double Place(double value) => (Math.Log10(value) - low) / (high - low);
                return new Axis(Place, [.. marks.Select(mark => (Place(mark), Label(mark)))]);
            }
            if (most == least)
                (least, most) = (least - Math.Max(0.5, Math.Abs(least) * 0.1), most + Math.Max(0.5, Math.Abs(most) * 0.1));
            // Room, so that no dot lies on the frame.
            (least, most) = (least - (most - least) * 0.03, most + (most - least) * 0.03);
            var step = Math.Pow(10, Math.Floor(Math.Log10((most - least) / 4)));
            step *= (most - least) / step > 20 ? 5 : (most - least) / step > 8 ? 2 : 1;
            // There is no step 1.5.
            if (values.All(double.IsInteger))
                step = Math.Max(1, step);
            var first = Math.Ceiling(least / step - 1e-9);
            return new Axis(value => (value - least) / (most - least),
                [.. Enumerable.Range(0, (int)Math.Floor(most / step + 1e-9) - (int)first + 1).Select(i => (first + i) * step).Select(mark => ((mark - least) / (most - least), Label(Math.Abs(mark) < step / 1e6 ? 0 : mark)))]);
        }

        private static string Label(double value) => value.ToString("G4", CultureInfo.InvariantCulture);

        public static Axis Categories(IReadOnlyList<string> names) =>
            new(index => (index + 0.5) / names.Count, [.. names.Select((name, i) => ((i + 0.5) / names.Count, name.Length > 24 ? name[..23] + "…" : name))]);
    }
}
