namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>Population-based training: a trial of a later generation goes on with the parameters of one of the generation before.</summary>
/// <remarks>
/// Jaderberg et al. 2017 with truncation: the worst quarter takes over parameters and values of one of the best quarter; its values are then
/// multiplied by 0.8 or 1.2, a list's moves to a neighbour, or drawn anew once in four times. The others go on with their own.
/// </remarks>
internal sealed class PopulationTraining(SearchSpace space, int seed, int concurrent, int population) : ILearner
{
    private const double Anew = 0.25;

    private readonly int _size = Math.Max(population, concurrent);

    public int Needs(int trial) => trial / _size * _size;

    public double[] Suggest(int trial, IReadOnlyList<Observation> known, IReadOnlyList<double[]> pending)
    {
        if (trial < _size)
            return Sobol.Even(seed, trial, space.Dimensions.Count);
        var (parent, own) = (ParentOf(trial, known), trial - _size);
        var point = known[parent].Point;
        var draws = new SearchDraws(seed, trial);
        draws.Uniform();
        return [.. space.Dimensions.Select((dimension, d) => parent == own ? Kept(dimension, point[d]) : Explored(dimension, point[d], draws))];
    }

    /// <summary>The trial whose parameters this one goes on with; its own of the generation before, unless that was among the worst quarter or failed.</summary>
    public int ParentOf(int trial, IReadOnlyList<Observation> known)
    {
        var first = Needs(trial) - _size;
        var ranked = Enumerable.Range(first, _size).OrderBy(i => known[i].Loss).ThenBy(i => i).ToList();
        var (own, quarter) = (trial - _size, Math.Max(1, _size / 4));
        var best = ranked.Take(quarter).Where(i => double.IsFinite(known[i].Loss)).ToList();
        if (best.Count == 0 || (ranked.IndexOf(own) < _size - quarter && double.IsFinite(known[own].Loss)))
            return own;
        return best[(int)(new SearchDraws(seed, trial).Uniform() * best.Count)];
    }

    private static double Kept(SearchSpace.Dimension dimension, double x) => double.IsNaN(x) ? 0.5 : dimension.Choices is > 0 and var n ? (x + 0.5) / n : x;

    private static double Explored(SearchSpace.Dimension dimension, double x, SearchDraws draws)
    {
        var (anew, u, up) = (draws.Uniform() < Anew, draws.Uniform(), draws.Uniform() < 0.5);
        if (anew || double.IsNaN(x))
            return u;
        if (dimension.Choices is > 0 and var n)
            return (Math.Clamp(x + (up ? 1 : -1), 0, n - 1) + 0.5) / n;
        return dimension.Scaled(x, up ? 1.2 : 0.8);
    }
}
