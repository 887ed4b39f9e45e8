using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>A search from one trial on, until an edit begins the next.</summary>
internal sealed class SearchEra
{
    private const int DefaultGeneration = 24;
    private const int DefaultPopulation = 8;

    private readonly Dictionary<int, double[]?> _points = [];

    /// <param name="spec">Spec that holds from then on.</param>
    /// <param name="from">First trial.</param>
    /// <param name="firstConcurrent">Trials at once in the beginning: generations keep the size that they began with.</param>
    /// <param name="valuesOf">Values of any trial before <paramref name="from"/>.</param>
    public SearchEra(ExperimentSpec spec, int from, int firstConcurrent, Func<int, IReadOnlyDictionary<string, string>> valuesOf)
    {
        (Spec, From, Space) = (spec, from, new SearchSpace(spec.Parameters));
        var (algorithm, concurrent) = (spec.Algorithm, spec.MaxConcurrentTrials);
        Learner = algorithm.Name switch
        {
            AlgorithmName.Tpe => new TreeParzen(Space, algorithm.Seed, concurrent),
            AlgorithmName.Gp => new GaussianProcess(Space, algorithm.Seed, concurrent),
            AlgorithmName.CmaEs => new CovarianceAdaptation(Space, algorithm.Seed, firstConcurrent),
            AlgorithmName.NsgaII => new NondominatedSorting(Space, algorithm.Seed, firstConcurrent, algorithm.Population ?? DefaultGeneration),
            AlgorithmName.Pbt => new PopulationTraining(Space, algorithm.Seed, firstConcurrent, algorithm.Population ?? DefaultPopulation),
            _ => null,
        };
        if (algorithm.Name == AlgorithmName.Grid)
        {
            Grid = new GridPoints(spec.Parameters, [.. Enumerable.Range(0, from).Select(valuesOf)]);
            Trials = (int)Math.Min((long)from + Grid.Count, spec.MaxTrials ?? 100_000);
        }
        else
        {
            Trials = spec.MaxTrials ?? (Space.Dimensions.Count == 0 ? 1 : throw new InvalidOperationException($"A {ExperimentSpecJson.NameOf(algorithm.Name)} search needs maxTrials: it would never end."));
        }
    }

    public ExperimentSpec Spec { get; }

    public int From { get; }

    public SearchSpace Space { get; }

    public ILearner? Learner { get; }

    public GridPoints? Grid { get; }

    /// <summary>Trials of the experiment, those before <see cref="From"/> included.</summary>
    public int Trials { get; }

    /// <summary>Trials with results. One that lies outside of the space, which was narrowed since, teaches nothing; where generations are counted it is there as one that failed.</summary>
    public IReadOnlyList<Observation> Observed(IEnumerable<int> trials, Func<int, IReadOnlyDictionary<string, string>> valuesOf, Func<int, IReadOnlyList<double>?> objectivesOf)
    {
        var counted = Learner is not (TreeParzen or GaussianProcess);
        var goals = Spec.Ranked();
        var known = new List<Observation>();
        foreach (var trial in trials)
        {
            var point = PointOf(trial, valuesOf);
            if (point is null && !counted)
                continue;
            var losses = point is not null && objectivesOf(trial) is { } values && values.All(double.IsFinite)
                ? values.Select((value, k) => goals[k].Goal == Goal.Minimize ? value : -value).ToArray()
                : [.. goals.Select(_ => double.PositiveInfinity)];
            known.Add(new Observation(point ?? [.. Space.Dimensions.Select(dimension => dimension.Choices > 0 ? 0 : 0.5)], losses[0]) { Losses = losses });
        }
        return known;
    }

    public IReadOnlyList<double[]> Points(IEnumerable<int> trials, Func<int, IReadOnlyDictionary<string, string>> valuesOf) => [.. trials.Select(trial => PointOf(trial, valuesOf)).OfType<double[]>()];

    private double[]? PointOf(int trial, Func<int, IReadOnlyDictionary<string, string>> valuesOf)
    {
        if (!_points.TryGetValue(trial, out var point))
            _points[trial] = point = Space.PointOf(valuesOf(trial));
        return point;
    }
}
