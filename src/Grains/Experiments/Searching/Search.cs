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
    private readonly List<SearchEra> _eras = [];

    public Search(ExperimentSpec spec) => Revise(spec, 0, _ => throw new InvalidOperationException("There is no earlier trial."));

    /// <summary>Number of trials.</summary>
    public int Trials { get; private set; }

    /// <summary>Whether values depend on results.</summary>
    public bool Learns => _eras[0].Learner is not null;

    /// <summary>From a trial on the search is that of another spec.</summary>
    /// <param name="spec">The edited spec, of the same algorithm.</param>
    /// <param name="from">Index of the first trial that has no values yet.</param>
    /// <param name="valuesOf">Values of any trial before it.</param>
    public void Revise(ExperimentSpec spec, int from, Func<int, IReadOnlyDictionary<string, string>> valuesOf)
    {
        var era = new SearchEra(spec, from, Math.Max(1, _eras.Count == 0 ? spec.MaxConcurrentTrials : _eras[0].Spec.MaxConcurrentTrials), valuesOf);
        _eras.RemoveAll(other => other.From >= from);
        _eras.Add(era);
        Trials = era.Trials;
    }

    /// <summary>A trial's values can be told when all trials with a lower index than this have ended.</summary>
    public int Needs(int trial) => Math.Clamp(EraOf(trial).Learner?.Needs(trial) ?? 0, 0, trial);

    /// <summary>Values of the searched parameters of a trial, by path, in the order of the spec. Empty for a search that learns: see <see cref="Suggest(int, Func{int, IReadOnlyDictionary{string, string}}, Func{int, double?})"/>.</summary>
    public IReadOnlyDictionary<string, string> ValuesOf(int trial)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(trial);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(trial, Trials);
        var era = EraOf(trial);
        var (space, seed) = (era.Space, era.Spec.Algorithm.Seed);
        return era.Spec.Algorithm.Name switch
        {
            AlgorithmName.Grid => era.Grid!.At(trial - era.From),
            AlgorithmName.Random => space.ValuesAt([.. space.Dimensions.Select(dimension => Uniform(seed, trial, dimension.Path))]),
            // The shift makes the points of a seed its own, and keeps what makes them even.
            AlgorithmName.Sobol => space.ValuesAt([.. space.Dimensions.Select((dimension, d) => Sobol.At(trial, d, Bits(seed, "shift", dimension.Path)))]),
            _ => new Dictionary<string, string>(),
        };
    }

    /// <summary>Values of a trial of a search that learns from one objective.</summary>
    /// <param name="trial">Index.</param>
    /// <param name="valuesOf">Values of any earlier trial.</param>
    /// <param name="objectiveOf">The objective's number of an ended trial; null when it failed or has none.</param>
    public IReadOnlyDictionary<string, string> Suggest(int trial, Func<int, IReadOnlyDictionary<string, string>> valuesOf, Func<int, double?> objectiveOf) =>
        Suggest(trial, valuesOf, earlier => objectiveOf(earlier) is { } value ? [value] : null);

    /// <summary>As the other form, with the numbers of all objectives in the order of the spec.</summary>
    public IReadOnlyDictionary<string, string> Suggest(int trial, Func<int, IReadOnlyDictionary<string, string>> valuesOf, Func<int, IReadOnlyList<double>?> objectivesOf)
    {
        var era = EraOf(trial);
        var needs = Needs(trial);
        return era.Space.ValuesAt(era.Learner!.Suggest(trial, era.Observed(Enumerable.Range(0, needs), valuesOf, objectivesOf), era.Points(Enumerable.Range(needs, trial - needs), valuesOf)));
    }

    /// <summary>Values of a trial that begins when certain others have a result of equal worth and others have none yet.</summary>
    public IReadOnlyDictionary<string, string> Suggest(int trial, IReadOnlyDictionary<int, double> known, IEnumerable<int> pending, Func<int, IReadOnlyDictionary<string, string>> valuesOf)
    {
        var era = EraOf(trial);
        return era.Space.ValuesAt(era.Learner!.Suggest(trial, era.Observed(known.Keys.Order(), valuesOf, earlier => [known[earlier]]), era.Points(pending, valuesOf)));
    }

    /// <summary>The trial whose trained parameters a trial begins with; null: the model's own.</summary>
    public int? ParentOf(int trial, Func<int, IReadOnlyDictionary<string, string>> valuesOf, Func<int, double?> objectiveOf)
    {
        var (era, needs) = (EraOf(trial), Needs(trial));
        return era.Learner is PopulationTraining pbt && needs > 0
            ? pbt.ParentOf(trial, era.Observed(Enumerable.Range(0, needs), valuesOf, earlier => objectiveOf(earlier) is { } value ? [value] : null))
            : null;
    }

    private SearchEra EraOf(int trial) => _eras.FindLast(era => era.From <= trial)!;

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
/// <param name="Loss">Smaller is better; infinite when the trial failed. With several objectives the first one's.</param>
internal readonly record struct Observation(double[] Point, double Loss)
{
    /// <summary>One for each objective.</summary>
    public IReadOnlyList<double> Losses { get => field ?? [Loss]; init; }
}

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
