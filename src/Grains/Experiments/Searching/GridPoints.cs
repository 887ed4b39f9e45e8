using System.Numerics;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>All combinations of listed values, the last parameter fastest, less those that were tried before.</summary>
internal sealed class GridPoints
{
    private readonly IReadOnlyDictionary<string, ParameterSpec> _parameters;
    private readonly List<Dictionary<string, string>>? _points;

    public GridPoints(IReadOnlyDictionary<string, ParameterSpec> parameters, IReadOnlyList<IReadOnlyDictionary<string, string>> tried)
    {
        _parameters = parameters;
        foreach (var (path, domain) in parameters)
            if (domain.Values is null)
                throw new InvalidOperationException($"'{path}' is an interval, but a grid needs values.");
        Count = (int)BigInteger.Min(int.MaxValue, Conditions.Points(parameters));
        if (tried.Count == 0 && parameters.Values.All(parameter => parameter.When is null))
            return;
        var known = tried.Select(Key).ToHashSet();
        // One experiment has at most so many trials.
        _points = [.. Walk(0, []).Where(values => !known.Contains(Key(values))).Take(100_000)];
        Count = _points.Count;
    }

    public int Count { get; }

    public IReadOnlyDictionary<string, string> At(int point)
    {
        if (_points is not null)
            return _points[point];
        var values = new string[_parameters.Count];
        var domains = _parameters.ToArray();
        // The last parameter runs fastest, so it takes the lowest digit of the index.
        for (var d = values.Length - 1; d >= 0; d--)
        {
            (point, var digit) = Math.DivRem(point, domains[d].Value.Values!.Count);
            values[d] = domains[d].Value.Values![digit];
        }
        return values.Select((value, d) => (domains[d].Key, value)).ToDictionary(pair => pair.Key, pair => pair.value);
    }

    private IEnumerable<Dictionary<string, string>> Walk(int index, Dictionary<string, string> values)
    {
        if (index == _parameters.Count)
            return [values];
        var (path, domain) = _parameters.ElementAt(index);
        return Conditions.Hold(domain, _parameters, values)
            ? domain.Values!.SelectMany(value => Walk(index + 1, new(values) { [path] = value }))
            : Walk(index + 1, values);
    }

    private static string Key(IReadOnlyDictionary<string, string> values) => string.Join('\n', values.OrderBy(pair => pair.Key, StringComparer.Ordinal).Select(pair => $"{pair.Key}={pair.Value}"));
}
