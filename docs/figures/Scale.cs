using System.Globalization;
using OxyPlot.Axes;

namespace AdjointDpm.Figures;

/// <summary>Extent and ticks of an axis.</summary>
internal sealed class Scale
{
    private const double Room = 0.015;

    private readonly int? _power;
    private readonly double _unit, _major;

    private Scale(double least, double most, int? power, double unit, double major)
    {
        (_power, _unit, _major) = (power, unit, major);
        // Room for the markers at both ends.
        (least, most) = (least / unit, most / unit);
        var room = power is null ? Room * (most - least) : Math.Pow(most / least, Room);
        (Least, Most) = power is null ? (least - room, most + room) : (least / room, most * room);
    }

    /// <summary>First value, as plotted.</summary>
    public double Least { get; }

    /// <summary>Last value, as plotted.</summary>
    public double Most { get; }

    /// <summary>Logarithmic, a tick at every power of a base times <paramref name="from"/>.</summary>
    public static Scale Powers(int power, double least, double most, double from = 1) => new(least, most, power, from, 0);

    public static Scale Linear(double least, double most, double major) => new(least, most, null, 1, major);

    /// <summary>A value in units of the axis: what is plotted.</summary>
    public double Plotted(double value) => value / _unit;

    /// <summary>Where a plotted value lies, 0 at the first and 1 at the last.</summary>
    public double Share(double plotted) => _power is null
        ? (plotted - Least) / (Most - Least)
        : Math.Log(plotted / Least) / Math.Log(Most / Least);

    public Axis Axis(AxisPosition position)
    {
        Axis axis = _power is { } power
            ? new LogarithmicAxis { Base = power, LabelFormatter = power == 10 && Least * _unit < 1 ? Power : Plain }
            : new LinearAxis { MajorStep = _major, LabelFormatter = Plain };
        (axis.Position, axis.Minimum, axis.Maximum) = (position, Least, Most);
        (axis.MinorTickSize, axis.MajorTickSize, axis.MaximumPadding, axis.MinimumPadding) = (0, 4, 0, 0);
        return axis;
    }

    private string Plain(double plotted) => Math.Round(plotted * _unit, 6).ToString("0.##", CultureInfo.InvariantCulture);

    // 10⁻³: every font has these.
    private static string Power(double plotted)
    {
        var exponent = (int)Math.Round(Math.Log10(plotted));
        return exponent switch { 0 => "1", 1 => "10", _ => "10" + string.Concat(exponent.ToString(CultureInfo.InvariantCulture).Select(c => c == '-' ? '⁻' : "⁰¹²³⁴⁵⁶⁷⁸⁹"[c - '0'])) };
    }
}
