using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments;

/// <summary>Which parameter values the trials of an experiment have: a pure function of spec and trial index.</summary>
internal sealed class Search
{
    private readonly ExperimentSpec _spec;
    private readonly KeyValuePair<string, ParameterSpec>[] _parameters;

    public Search(ExperimentSpec spec)
    {
        _spec = spec;
        _parameters = [.. spec.Parameters];
        Trials = Count();
    }

    /// <summary>Number of trials.</summary>
    public int Trials { get; }

    /// <summary>Values of the searched parameters of a trial, by path, in the order of the spec.</summary>
    public IReadOnlyDictionary<string, string> ValuesOf(int trial)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(trial);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(trial, Trials);
        var values = new Dictionary<string, string>(_parameters.Length);
        var rest = trial;
        // The last parameter runs fastest, so it takes the lowest digit of the index.
        foreach (var (path, domain) in _parameters.Reverse())
            values[path] = _spec.Algorithm.Name == AlgorithmName.Grid ? GridValue(domain, ref rest) : Draw(trial, path, domain);
        return _parameters.ToDictionary(parameter => parameter.Key, parameter => values[parameter.Key]);
    }

    private int Count()
    {
        if (_parameters.Length == 0)
            return _spec.Algorithm.Name == AlgorithmName.Random ? _spec.MaxTrials ?? 1 : 1;
        if (_spec.Algorithm.Name == AlgorithmName.Random)
            return _spec.MaxTrials ?? throw new InvalidOperationException("A random search needs maxTrials: it would never end.");
        var points = 1L;
        foreach (var (path, domain) in _parameters)
            points = Math.Min(int.MaxValue, points * (domain.Values?.Count ?? throw new InvalidOperationException($"'{path}' is an interval, but a grid needs values.")));
        return (int)Math.Min(points, _spec.MaxTrials ?? 100_000);
    }

    private static string GridValue(ParameterSpec domain, ref int rest)
    {
        (rest, var digit) = Math.DivRem(rest, domain.Values!.Count);
        return domain.Values[digit];
    }

    private string Draw(int trial, string path, ParameterSpec domain)
    {
        var u = Uniform(_spec.Algorithm.Seed, trial, path);
        if (domain.Values is { } values)
            return values[(int)(u * values.Count)];
        var (min, max) = (domain.Min!.Value, domain.Max!.Value);
        return domain.Distribution switch
        {
            Distribution.Uniform => Text(min + u * (max - min), min, max),
            Distribution.LogUniform => Text(min * Math.Exp(u * Math.Log(max / min)), min, max),
            Distribution.IntUniform => ((long)min + (long)Math.Floor(u * (max - min + 1))).ToString(CultureInfo.InvariantCulture),
            _ => throw new InvalidOperationException($"'{path}' has the unknown distribution {domain.Distribution}."),
        };
    }

    // Six digits are more than a search needs and few enough to read and type; the rounded number is the one that is used.
    private static string Text(double value, double min, double max) =>
        Math.Clamp(double.Parse(value.ToString("G6", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture), min, max).ToString("R", CultureInfo.InvariantCulture);

    // Keyed, not drawn in sequence: a trial's values do not depend on how many trials or parameters stand before it.
    private static double Uniform(int seed, int trial, string path)
    {
        Span<byte> hash = stackalloc byte[32];
        SHA256.HashData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"search/{seed}/{trial}/{path}")), hash);
        return (BinaryPrimitives.ReadUInt64LittleEndian(hash) >> 11) * (1.0 / (1UL << 53));
    }
}
