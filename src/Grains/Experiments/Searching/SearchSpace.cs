using System.Globalization;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>The searched parameters as coordinates: an interval is [0, 1] in its own scale, a list of values the index of one of them.</summary>
internal sealed class SearchSpace(IReadOnlyDictionary<string, ParameterSpec> parameters)
{
    /// <summary>In the order of the spec.</summary>
    public IReadOnlyList<Dimension> Dimensions { get; } = [.. parameters.Select(parameter => new Dimension(parameter.Key, parameter.Value))];

    /// <summary>Values of the parameters by path, from one coordinate each in [0, 1): a list of n values takes equal parts of it.</summary>
    public IReadOnlyDictionary<string, string> ValuesAt(IReadOnlyList<double> unit) => Dimensions.Select((dimension, d) => (dimension.Path, Value: dimension.ValueAt(unit[d]))).ToDictionary(pair => pair.Path, pair => pair.Value);

    /// <summary>Coordinates of values: in [0, 1] for an interval, the index for a list.</summary>
    public double[] PointOf(IReadOnlyDictionary<string, string> values) => [.. Dimensions.Select(dimension => dimension.PointOf(values[dimension.Path]))];

    /// <summary>One searched parameter.</summary>
    public sealed class Dimension(string path, ParameterSpec domain)
    {
        public string Path => path;

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

        public double PointOf(string value)
        {
            if (domain.Values is { } values)
            {
                for (var i = 0; i < values.Count; i++)
                    if (values[i] == value)
                        return i;
                throw new ArgumentException($"'{value}' is none of the values of '{path}'.", nameof(value));
            }
            var (min, max) = (domain.Min!.Value, domain.Max!.Value);
            var x = double.Parse(value, CultureInfo.InvariantCulture);
            return Math.Clamp(domain.Distribution switch
            {
                Distribution.LogUniform => Math.Log(x / min) / Math.Log(max / min),
                Distribution.IntUniform => (x - min + 0.5) / (max - min + 1),
                _ => (x - min) / (max - min),
            }, 0, 1);
        }

        // Six digits are more than a search needs and few enough to read and type; the rounded number is the one that is used.
        private static string Text(double value, double min, double max) =>
            Math.Clamp(double.Parse(value.ToString("G6", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture), min, max).ToString("R", CultureInfo.InvariantCulture);
    }
}
