namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>NSGA-II: generations whose parents are the best of all before by front and, within a front, by distance from their neighbours.</summary>
/// <remarks>Deb et al. 2002: tournaments of two, simulated binary crossover and polynomial mutation on intervals; listed values are exchanged, and drawn anew.</remarks>
internal sealed class NondominatedSorting(SearchSpace space, int seed, int concurrent, int population) : ILearner
{
    private const double Crossover = 0.9;
    private const double CrossoverIndex = 15;
    private const double MutationIndex = 20;

    /// <summary>A generation is at least as large as the number of trials that run at once, else some would wait for each other.</summary>
    private readonly int _size = Math.Max(population, concurrent);

    private readonly List<(Observation Trial, int Front, double Distance)[]> _parents = [];

    public int Needs(int trial) => trial / _size * _size;

    public double[] Suggest(int trial, IReadOnlyList<Observation> known, IReadOnlyList<double[]> pending)
    {
        if (trial < _size)
            return Sobol.Even(seed, trial, space.Dimensions.Count);
        while (_parents.Count < trial / _size)
            _parents.Add(Best([.. _parents.Count == 0 ? [] : _parents[^1].Select(parent => parent.Trial), .. known.Skip(_parents.Count * _size).Take(_size)]));
        var parents = _parents[trial / _size - 1];
        var draws = new SearchDraws(seed, trial);
        if (parents.Length == 0)
            return [.. space.Dimensions.Select(_ => draws.Uniform())];
        var (first, second) = (Winner(parents, draws), Winner(parents, draws));
        var crossed = draws.Uniform() < Crossover;
        return [.. space.Dimensions.Select((dimension, d) => Mutated(dimension, crossed ? Crossed(dimension, first[d], second[d], draws) : first[d], draws))];
    }

    /// <summary>The better half of parents and children: whole fronts, and of the last one those that stand most alone.</summary>
    private (Observation Trial, int Front, double Distance)[] Best(List<Observation> trials)
    {
        var ended = trials.Where(trial => trial.Losses.All(double.IsFinite)).ToList();
        var chosen = new List<(Observation, int, double)>();
        var fronts = ParetoFront.Fronts([.. ended.Select(trial => trial.Losses)]);
        for (var front = 0; front < fronts.Count && chosen.Count < _size; front++)
        {
            var distances = ParetoFront.Crowding([.. fronts[front].Select(i => ended[i].Losses)]);
            chosen.AddRange(fronts[front].Select((i, at) => (ended[i], front, distances[at])).OrderByDescending(one => one.Item3).Take(_size - chosen.Count));
        }
        return [.. chosen];
    }

    private static double[] Winner((Observation Trial, int Front, double Distance)[] parents, SearchDraws draws)
    {
        var (a, b) = (parents[(int)(draws.Uniform() * parents.Length)], parents[(int)(draws.Uniform() * parents.Length)]);
        return (a.Front < b.Front || (a.Front == b.Front && a.Distance >= b.Distance) ? a : b).Trial.Point;
    }

    private static double Crossed(SearchSpace.Dimension dimension, double x, double y, SearchDraws draws)
    {
        // Missing where it was not searched: the other parent may have it.
        if (double.IsNaN(x) || double.IsNaN(y))
            return double.IsNaN(x) ? y : x;
        var u = draws.Uniform();
        if (dimension.Choices > 0 || draws.Uniform() < 0.5)
            return u < 0.5 ? x : y;
        var spread = Math.Pow(u < 0.5 ? 2 * u : 1 / (2 * (1 - u)), 1 / (CrossoverIndex + 1));
        return Math.Clamp(0.5 * ((x + y) + spread * (x - y)), 0, 1);
    }

    /// <summary>One parameter in the mean. The answer is a coordinate in [0, 1), for lists too.</summary>
    private double Mutated(SearchSpace.Dimension dimension, double x, SearchDraws draws)
    {
        var mutates = draws.Uniform() < 1.0 / space.Dimensions.Count;
        var u = draws.Uniform();
        if (double.IsNaN(x) || (mutates && dimension.Choices > 0))
            return u;
        if (dimension.Choices > 0)
            return (x + 0.5) / dimension.Choices;
        if (!mutates)
            return x;
        var step = u < 0.5 ? Math.Pow(2 * u, 1 / (MutationIndex + 1)) - 1 : 1 - Math.Pow(2 * (1 - u), 1 / (MutationIndex + 1));
        return Math.Clamp(x + step, 0, 1);
    }
}
