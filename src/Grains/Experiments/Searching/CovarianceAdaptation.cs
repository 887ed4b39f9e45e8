using MathNet.Numerics.LinearAlgebra;

namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>CMA-ES: generations of normal draws whose mean, step and covariance follow the better half. For intervals only.</summary>
/// <remarks>Hansen 2016, "The CMA evolution strategy: a tutorial", table 1, with its default constants. Draws outside of [0, 1] are drawn again, at last cut off.</remarks>
internal sealed class CovarianceAdaptation : ILearner
{
    private const double FirstSigma = 1.0 / 6;
    private const int Redraws = 100;

    private readonly int _seed;
    private readonly int _n;
    private readonly int _lambda;
    private readonly double[] _weights;
    private readonly double _muEff;
    private readonly double _cSigma;
    private readonly double _dSigma;
    private readonly double _cC;
    private readonly double _c1;
    private readonly double _cMu;
    private readonly double _expectedNorm;
    private readonly List<State> _generations;

    public CovarianceAdaptation(SearchSpace space, int seed, int concurrent)
    {
        _seed = seed;
        _n = space.Dimensions.Count;
        _lambda = Math.Max(4 + (int)Math.Floor(3 * Math.Log(_n)), concurrent);
        var raw = Enumerable.Range(1, _lambda / 2).Select(i => Math.Log((_lambda + 1) / 2.0) - Math.Log(i)).ToArray();
        _weights = [.. raw.Select(weight => weight / raw.Sum())];
        _muEff = 1 / _weights.Sum(weight => weight * weight);
        _cSigma = (_muEff + 2) / (_n + _muEff + 5);
        _dSigma = 1 + 2 * Math.Max(0, Math.Sqrt((_muEff - 1) / (_n + 1)) - 1) + _cSigma;
        _cC = (4 + _muEff / _n) / (_n + 4 + 2 * _muEff / _n);
        _c1 = 2 / (Math.Pow(_n + 1.3, 2) + _muEff);
        _cMu = Math.Min(1 - _c1, 2 * (_muEff - 2 + 1 / _muEff) / (Math.Pow(_n + 2, 2) + _muEff));
        _expectedNorm = Math.Sqrt(_n) * (1 - 1 / (4.0 * _n) + 1 / (21.0 * _n * _n));
        var zero = Vector<double>.Build.Dense(_n);
        _generations = [new State(Vector<double>.Build.Dense(_n, 0.5), FirstSigma, Matrix<double>.Build.DenseIdentity(_n), zero, zero)];
    }

    /// <summary>A generation is drawn when the one before has ended.</summary>
    public int Needs(int trial) => trial / _lambda * _lambda;

    public double[] Suggest(int trial, IReadOnlyList<Observation> known, IReadOnlyList<double[]> pending)
    {
        while (_generations.Count <= trial / _lambda)
            _generations.Add(Next(_generations[^1], _generations.Count, [.. known.Skip((_generations.Count - 1) * _lambda).Take(_lambda)]));
        var state = _generations[trial / _lambda];
        var (vectors, roots) = state.Axes.Value;
        var draws = new SearchDraws(_seed, trial);
        Vector<double> x;
        var left = Redraws;
        do
        {
            var z = Vector<double>.Build.Dense(_n, _ => draws.Normal());
            x = state.Mean + state.Sigma * (vectors * roots.PointwiseMultiply(z));
        }
        while (x.Any(value => value is < 0 or > 1) && left-- > 0);
        return [.. x.Select(value => Math.Clamp(value, 0, 1))];
    }

    private State Next(State state, int generation, Observation[] trials)
    {
        // A trial that failed is worse than any other; when all did, nothing is known.
        var ranked = trials.Select((trial, i) => (trial, i)).OrderBy(pair => pair.trial.Loss).ThenBy(pair => pair.i).Take(_weights.Length).ToArray();
        if (ranked.Length == 0 || double.IsInfinity(ranked[0].trial.Loss))
            return state;
        var steps = ranked.Select(pair => (Vector<double>.Build.DenseOfArray(pair.trial.Point) - state.Mean) / state.Sigma).ToArray();
        var mean = Vector<double>.Build.Dense(_n);
        for (var i = 0; i < steps.Length; i++)
            mean += _weights[i] * steps[i];
        var (vectors, roots) = state.Axes.Value;
        var white = vectors * (vectors.TransposeThisAndMultiply(mean) / roots);
        var pathSigma = (1 - _cSigma) * state.PathSigma + Math.Sqrt(_cSigma * (2 - _cSigma) * _muEff) * white;
        var stalled = pathSigma.L2Norm() / Math.Sqrt(1 - Math.Pow(1 - _cSigma, 2 * generation)) >= (1.4 + 2 / (_n + 1.0)) * _expectedNorm;
        var pathC = (1 - _cC) * state.PathC + (stalled ? 0 : Math.Sqrt(_cC * (2 - _cC) * _muEff)) * mean;
        var rankOne = pathC.OuterProduct(pathC) + (stalled ? _cC * (2 - _cC) : 0) * state.Covariance;
        var rankMu = Matrix<double>.Build.Dense(_n, _n);
        for (var i = 0; i < steps.Length; i++)
            rankMu += _weights[i] * steps[i].OuterProduct(steps[i]);
        var covariance = (1 - _c1 - _cMu) * state.Covariance + _c1 * rankOne + _cMu * rankMu;
        var sigma = state.Sigma * Math.Exp(Math.Min(1, _cSigma / _dSigma * (pathSigma.L2Norm() / _expectedNorm - 1)));
        return new State(state.Mean + state.Sigma * mean, sigma, covariance, pathSigma, pathC);
    }

    private sealed record State(Vector<double> Mean, double Sigma, Matrix<double> Covariance, Vector<double> PathSigma, Vector<double> PathC)
    {
        /// <summary>Eigenvectors of the covariance and the roots of its eigenvalues.</summary>
        public Lazy<(Matrix<double> Vectors, Vector<double> Roots)> Axes { get; } = new(() =>
        {
            var eigen = ((Covariance + Covariance.Transpose()) / 2).Evd(Symmetricity.Symmetric);
            return (eigen.EigenVectors, eigen.EigenValues.Map(value => Math.Sqrt(Math.Max(value.Real, 1e-20))));
        });
    }
}
