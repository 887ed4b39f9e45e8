using System.Globalization;
using AdjointDpm.Grains.Experiments;

namespace AdjointDpm.Bench;

/// <summary>Numbers as the tables have them.</summary>
internal static class Cells
{
    public static string Number(double value, string format) => double.IsNaN(value) ? "–" : value.ToString(format, CultureInfo.InvariantCulture);

    public static string Share(double value) => Number(value, "p0");

    /// <summary>Count, share and 95 % interval.</summary>
    public static string Share(AttackShare? share) => share is null ? "–" : string.Create(CultureInfo.InvariantCulture, $"{share.Value:p1} ({share.Count} of {share.Of}; {share.Low:p1} to {share.High:p1})");

    /// <summary>Mean and standard deviation of a few.</summary>
    public static string Spread(IReadOnlyList<double> values, string format)
    {
        var mean = values.Average();
        var deviation = values.Count < 2 ? 0 : Math.Sqrt(values.Sum(value => (value - mean) * (value - mean)) / (values.Count - 1));
        return $"{Number(mean, format)} ± {Number(deviation, format)}";
    }
}
