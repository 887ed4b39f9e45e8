using System.Globalization;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>The searched parameters as coordinates: an interval is [0, 1] in its own scale, a list of values the index of one of them.</summary>
internal sealed class SearchSpace(IReadOnlyDictionary<string, ParameterSpec> parameters)
{
    /// <summary>In the order of the spec.</summary>
    public IReadOnlyList<Dimension> Dimensions { get; } = [.. parameters.Select(parameter => new Dimension(parameter.Key, parameter.Value))];

    /// <summary>Whether some parameter is searched only where others have certain values.</summary>
    public bool IsConditional { get; } = parameters.Values.Any(parameter => parameter.When is { Count: > 0 });

    /// <summary>Values of the parameters by path, from one coordinate each in [0, 1): a list of n values takes equal parts of it. Parameters that are not searched there are left out.</summary>
    public IReadOnlyDictionary<string, string> ValuesAt(IReadOnlyList<double> unit)
    {
        var values = new Dictionary<string, string>(Dimensions.Count);
        for (var d = 0; d < Dimensions.Count; d++)
            if (IsSearched(Dimensions[d], values))
                values[Dimensions[d].Path] = Dimensions[d].ValueAt(unit[d]);
        return values;
    }

    /// <summary>Coordinates of values: in [0, 1] for an interval, the index for a list, NaN for a parameter that was not searched there. Null when they lie outside, as those of trials before the space was narrowed may.</summary>
    public double[]? PointOf(IReadOnlyDictionary<string, string> values)
    {
        var point = new double[Dimensions.Count];
        for (var d = 0; d < point.Length; d++)
        {
            if (!values.TryGetValue(Dimensions[d].Path, out var value))
                point[d] = double.NaN;
            else if (Dimensions[d].PointOf(value) is { } x)
                point[d] = x;
            else
                return null;
        }
        return point;
    }

    /// <summary>A point with NaN where its own listed values say that a parameter is not searched.</summary>
    public double[] Masked(double[] point)
    {
        if (!IsConditional)
            return point;
        var (masked, values) = ((double[])point.Clone(), new Dictionary<string, string>());
        for (var d = 0; d < point.Length; d++)
        {
            if (!IsSearched(Dimensions[d], values))
                masked[d] = double.NaN;
            else if (Dimensions[d].Choices > 0)
                values[Dimensions[d].Path] = Dimensions[d].Listed((int)masked[d]);
        }
        return masked;
    }

    /// <summary>A point with the same stand-in wherever a parameter is not searched, so that such points differ in nothing there.</summary>
    public double[] Filled(double[] point) =>
        IsConditional ? [.. Masked(point).Select((x, d) => !double.IsNaN(x) ? x : Dimensions[d].Choices > 0 ? 0 : 0.5)] : point;

    private bool IsSearched(Dimension dimension, Dictionary<string, string> values) => Conditions.Hold(dimension.Domain, parameters, values);

    /// <summary>One searched parameter.</summary>
    public sealed class Dimension(string path, ParameterSpec domain)
    {
        public string Path => path;

        public ParameterSpec Domain => domain;

        public string Listed(int index) => domain.Values![index];

        /// <summary>Number of listed values; 0 for an interval.</summary>
        public int Choices => domain.Values?.Count ?? 0;

        public string ValueAt(double u)
        {
            if (domain.Values is { } values)
                return values[Math.Clamp((int)(u * values.Count), 0, values.Count - 1)];
            var (min, max) = (domain.Min!.Value, domain.Max!.Value);
            return domain.Distribution switch
            {
                Distribution.Uniform => Text(min + u * (max - min), min, max),
                Distribution.LogUniform => Text(min * Math.Exp(u * Math.Log(max / min)), min, max),
                Distribution.IntUniform => Math.Clamp((long)min + (long)Math.Floor(u * (max - min + 1)), (long)min, (long)max).ToString(CultureInfo.InvariantCulture),
                _ => throw new InvalidOperationException($"'{path}' has the unknown distribution {domain.Distribution}."),
            };
        }

        /// <summary>Null: outside.</summary>
        public double? PointOf(string value)
        {
            if (domain.Values is { } values)
            {
                for (var i = 0; i < values.Count; i++)
                    if (values[i] == value)
                        return i;
                return null;
            }
            var (min, max) = (domain.Min!.Value, domain.Max!.Value);
            var x = double.Parse(value, CultureInfo.InvariantCulture);
            if (x < min || x > max)
                return null;
            return Math.Clamp(domain.Distribution switch
            {
                Distribution.LogUniform => Math.Log(x / min) / Math.Log(max / min),
                Distribution.IntUniform => (x - min + 0.5) / (max - min + 1),
                _ => (x - min) / (max - min),
            }, 0, 1);
        }

        /// <summary>The coordinate of a value times a factor, cut off at the ends of the interval.</summary>
        public double Scaled(double x, double factor)
        {
            var (min, max) = (domain.Min!.Value, domain.Max!.Value);
            return Math.Clamp(domain.Distribution switch
            {
                Distribution.LogUniform => x + Math.Log(factor) / Math.Log(max / min),
                Distribution.IntUniform => (Math.Round((min + x * (max - min + 1) - 0.5) * factor) - min + 0.5) / (max - min + 1),
                _ => ((min + x * (max - min)) * factor - min) / (max - min),
            }, 0, 1);
        }

        // Six digits are more than a search needs and few enough to read and type; the rounded number is the one that is used.
        private static string Text(double value, double min, double max) =>
            Math.Clamp(double.Parse(value.ToString("G6", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture), min, max).ToString("R", CultureInfo.InvariantCulture);
    }
}
