using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>Which parameter values the trials of an experiment have: a pure function of spec, trial index and, for searches that learn, the results of certain earlier trials.</summary>
/// <remarks>
/// Which results those are is fixed by the index alone (<see cref="Needs"/>), never by who ended first, so a sweep is the same sweep however
/// long its trials take, on any number of workers and through any crash. The price: a trial waits for the slowest of those it learns from.
/// </remarks>
internal sealed class Search
{
    private readonly ExperimentSpec _spec;
    private readonly SearchSpace _space;
    private readonly ILearner? _learner;
    private readonly List<double[]> _points = [];

    public Search(ExperimentSpec spec)
    {
        _spec = spec;
        _space = new SearchSpace(spec.Parameters);
        Trials = Count();
        _learner = spec.Algorithm.Name switch
        {
            AlgorithmName.Tpe => new TreeParzen(_space, spec.Algorithm.Seed, spec.MaxConcurrentTrials),
            AlgorithmName.Gp => new GaussianProcess(_space, spec.Algorithm.Seed, spec.MaxConcurrentTrials),
            AlgorithmName.CmaEs => new CovarianceAdaptation(_space, spec.Algorithm.Seed, spec.MaxConcurrentTrials),
            _ => null,
        };
    }

    /// <summary>Number of trials.</summary>
    public int Trials { get; }

    /// <summary>Whether values depend on results.</summary>
    public bool Learns => _learner is not null;

    /// <summary>A trial's values can be told when all trials with a lower index than this have ended.</summary>
    public int Needs(int trial) => Math.Clamp(_learner?.Needs(trial) ?? 0, 0, trial);

    /// <summary>Values of the searched parameters of a trial, by path, in the order of the spec. Empty for a search that learns: see <see cref="Suggest"/>.</summary>
    public IReadOnlyDictionary<string, string> ValuesOf(int trial)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(trial);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(trial, Trials);
        return _spec.Algorithm.Name switch
        {
            AlgorithmName.Grid => GridPoint(trial),
            AlgorithmName.Random => _space.ValuesAt([.. _space.Dimensions.Select(dimension => Uniform(_spec.Algorithm.Seed, trial, dimension.Path))]),
            // The shift makes the points of a seed its own, and keeps what makes them even.
            AlgorithmName.Sobol => _space.ValuesAt([.. _space.Dimensions.Select((dimension, d) => Sobol.At(trial, d, Bits(_spec.Algorithm.Seed, "shift", dimension.Path)))]),
            _ => new Dictionary<string, string>(),
        };
    }

    /// <summary>Values of a trial of a search that learns.</summary>
    /// <param name="trial">Index.</param>
    /// <param name="valuesOf">Values of any earlier trial.</param>
    /// <param name="objectiveOf">The objective's number of an ended trial; null when it failed or has none.</param>
    public IReadOnlyDictionary<string, string> Suggest(int trial, Func<int, IReadOnlyDictionary<string, string>> valuesOf, Func<int, double?> objectiveOf)
    {
        var sign = _spec.Objective.Goal == Goal.Minimize ? 1 : -1;
        for (var earlier = _points.Count; earlier < trial; earlier++)
            _points.Add(_space.PointOf(valuesOf(earlier)));
        var known = Enumerable.Range(0, Needs(trial)).Select(earlier => new Observation(_points[earlier], objectiveOf(earlier) is { } value && double.IsFinite(value) ? sign * value : double.PositiveInfinity));
        return _space.ValuesAt(_learner!.Suggest(trial, [.. known], _points[Needs(trial)..trial]));
    }

    private int Count()
    {
        var name = ExperimentSpecJson.NameOf(_spec.Algorithm.Name);
        if (_spec.Algorithm.Name != AlgorithmName.Grid)
            return _spec.MaxTrials ?? (_space.Dimensions.Count == 0 ? 1 : throw new InvalidOperationException($"A {name} search needs maxTrials: it would never end."));
        if (_space.Dimensions.Count == 0)
            return 1;
        var points = 1L;
        foreach (var dimension in _space.Dimensions)
            points = Math.Min(int.MaxValue, points * (dimension.Choices > 0 ? dimension.Choices : throw new InvalidOperationException($"'{dimension.Path}' is an interval, but a grid needs values.")));
        return (int)Math.Min(points, _spec.MaxTrials ?? 100_000);
    }

    private Dictionary<string, string> GridPoint(int trial)
    {
        var values = new string[_space.Dimensions.Count];
        // The last parameter runs fastest, so it takes the lowest digit of the index.
        for (var d = values.Length - 1; d >= 0; d--)
        {
            (trial, var digit) = Math.DivRem(trial, _space.Dimensions[d].Choices);
            values[d] = _spec.Parameters[_space.Dimensions[d].Path].Values![digit];
        }
        return values.Select((value, d) => (_space.Dimensions[d].Path, value)).ToDictionary(pair => pair.Path, pair => pair.value);
    }

    // Keyed, not drawn in sequence: a trial's values do not depend on how many trials or parameters stand before it.
    private static double Uniform(int seed, int trial, string path) => (Bits(seed, trial.ToString(CultureInfo.InvariantCulture), path) >> 11) * (1.0 / (1UL << 53));

    private static ulong Bits(int seed, string what, string path)
    {
        Span<byte> hash = stackalloc byte[32];
        SHA256.HashData(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"search/{seed}/{what}/{path}")), hash);
        return BinaryPrimitives.ReadUInt64LittleEndian(hash);
    }
}

/// <summary>An ended trial as a search sees it.</summary>
/// <param name="Point">Coordinates (<see cref="SearchSpace.PointOf"/>).</param>
/// <param name="Loss">Smaller is better; infinite when the trial failed.</param>
internal readonly record struct Observation(double[] Point, double Loss);

/// <summary>A search that learns from results.</summary>
internal interface ILearner
{
    /// <summary>Trials with a lower index must have ended before this one can be chosen.</summary>
    int Needs(int trial);

    /// <summary>One coordinate in [0, 1] for each parameter.</summary>
    /// <param name="trial">Index.</param>
    /// <param name="known">All trials below <see cref="Needs"/>, by index.</param>
    /// <param name="pending">Points of the trials between those and this one, whose results must not be looked at.</param>
    double[] Suggest(int trial, IReadOnlyList<Observation> known, IReadOnlyList<double[]> pending);
}
