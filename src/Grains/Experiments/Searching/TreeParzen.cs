namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>Tree-structured Parzen estimator, multivariate: the candidate of the good trials' density at which it is largest beside that of the others.</summary>
/// <remarks>
/// Bergstra et al. 2011; kernels over all parameters at once as Falkner et al. 2018 (BOHB); bandwidths, weights and the number of good trials
/// are those of Optuna 3.1 (<c>TPESampler(multivariate=True, constant_liar=True)</c>), the first trials points of a Sobol sequence. Trials
/// under way count among the others. Where a parameter is not searched it says nothing: kernels of such trials are wide in it.
/// </remarks>
internal sealed class TreeParzen(SearchSpace space, int seed, int concurrent) : ILearner
{
    private const int Startup = 10;
    private const int Candidates = 24;

    /// <summary>The newest so many trials have full weight; before them it falls.</summary>
    private const int FullWeight = 25;

    public int Needs(int trial) => trial < Startup ? 0 : trial - concurrent + 1;

    public double[] Suggest(int trial, IReadOnlyList<Observation> known, IReadOnlyList<double[]> pending)
    {
        var draws = new SearchDraws(seed, trial);
        if (trial < Startup || !known.Any(observation => double.IsFinite(observation.Loss)))
            return Sobol.Even(seed, trial, space.Dimensions.Count);
        // Ties go to the earlier trial, and everything stays in the order of the trials: weights depend on it.
        var ranked = Enumerable.Range(0, known.Count).Where(i => double.IsFinite(known[i].Loss)).OrderBy(i => known[i].Loss).ThenBy(i => i);
        var good = ranked.Take(Math.Min((int)Math.Ceiling(0.1 * known.Count), FullWeight)).ToHashSet();
        var below = new Density(space, [.. known.Where((_, i) => good.Contains(i)).Select(trial => trial.Point)]);
        var above = new Density(space, [.. known.Where((_, i) => !good.Contains(i)).Select(trial => trial.Point), .. pending]);
        var (best, bestScore) = (Array.Empty<double>(), double.NegativeInfinity);
        for (var c = 0; c < Candidates; c++)
        {
            var candidate = space.Masked(below.Draw(draws));
            var score = below.Log(candidate) - above.Log(candidate);
            if (score > bestScore || best.Length == 0)
                (best, bestScore) = (candidate, score);
        }
        // The middle of the part of [0, 1] that stands for a listed value.
        return [.. best.Select((x, d) => double.IsNaN(x) ? 0.5 : space.Dimensions[d].Choices is > 0 and var n ? (x + 0.5) / n : x)];
    }

    /// <summary>A mixture of one kernel for each point and a wide one, all of the same bandwidth, cut off at the ends of [0, 1].</summary>
    private sealed class Density
    {
        private readonly SearchSpace _space;
        private readonly double[][] _points;
        private readonly double[] _weights;
        private readonly double[] _logs;
        private readonly double[][]? _cuts;
        private readonly double _sigma;
        private readonly double _choicePrior;

        public Density(SearchSpace space, double[][] points)
        {
            (_space, _points) = (space, points);
            var n = points.Length;
            var dimensions = space.Dimensions.Count;
            _sigma = Math.Clamp(0.2 * Math.Pow(Math.Max(n, 1), -1.0 / (dimensions + 4)), 1.0 / Math.Min(100, n + 2), 1);
            _choicePrior = 1.0 / (n + 1);
            // The last kernel is the wide one.
            _weights = [.. Enumerable.Range(0, n).Select(i => n < FullWeight || i >= n - FullWeight ? 1 : Ramp(i, n)), 1];
            var total = _weights.Sum();
            _logs = new double[n + 1];
            _cuts = space.IsConditional ? [.. Enumerable.Range(0, n + 1).Select(_ => new double[dimensions])] : null;
            for (var k = 0; k <= n; k++)
            {
                var log = Math.Log(_weights[k] / total);
                for (var d = 0; d < dimensions; d++)
                {
                    if (space.Dimensions[d].Choices > 0)
                        continue;
                    var (mean, sigma) = Kernel(k, d);
                    // As in Optuna 3.1 the narrow kernels are not made higher: the wide one counts for more in the comparison, which
                    // on functions of four parameters and more comes nearer to the minimum (docs/search.md).
                    var cut = Math.Log(Gaussian.Cdf((1 - mean) / sigma) - Gaussian.Cdf(-mean / sigma));
                    if (_cuts is null)
                        log -= cut;
                    else
                        _cuts[k][d] = cut;
                }
                _logs[k] = log;
            }
        }

        public double[] Draw(SearchDraws draws)
        {
            var k = draws.Index(_weights);
            var x = new double[_space.Dimensions.Count];
            for (var d = 0; d < x.Length; d++)
            {
                if (_space.Dimensions[d].Choices is > 0 and var choices)
                {
                    x[d] = draws.Index([.. Enumerable.Range(0, choices).Select(choice => Mass(k, d, choice, choices))]);
                    continue;
                }
                var (mean, sigma) = Kernel(k, d);
                var (low, high) = (Gaussian.Cdf(-mean / sigma), Gaussian.Cdf((1 - mean) / sigma));
                x[d] = Math.Clamp(mean + sigma * Gaussian.Quantile(low + draws.Uniform() * (high - low)), 0, 1);
            }
            return x;
        }

        public double Log(double[] x)
        {
            Span<double> logs = _logs.Length <= 256 ? stackalloc double[_logs.Length] : new double[_logs.Length];
            var largest = double.NegativeInfinity;
            for (var k = 0; k < logs.Length; k++)
            {
                var log = _logs[k];
                for (var d = 0; d < x.Length; d++)
                {
                    if (_cuts is not null)
                    {
                        if (double.IsNaN(x[d]))
                            continue;
                        log -= _cuts[k][d];
                    }
                    if (_space.Dimensions[d].Choices is > 0 and var choices)
                    {
                        log += Math.Log(Mass(k, d, (int)x[d], choices));
                        continue;
                    }
                    var (mean, sigma) = Kernel(k, d);
                    var z = (x[d] - mean) / sigma;
                    log -= 0.5 * z * z;
                }
                logs[k] = log;
                largest = Math.Max(largest, log);
            }
            var sum = 0.0;
            foreach (var log in logs)
                sum += Math.Exp(log - largest);
            return largest + Math.Log(sum);
        }

        private (double Mean, double Sigma) Kernel(int k, int d) => k < _points.Length && !double.IsNaN(_points[k][d]) ? (_points[k][d], _sigma) : (0.5, 1);

        /// <summary>Probability of a listed value: its own trial's, and a part of the wide kernel's for all.</summary>
        private double Mass(int k, int d, int choice, int choices) =>
            k < _points.Length && !double.IsNaN(_points[k][d]) ? (_choicePrior + ((int)_points[k][d] == choice ? 1 : 0)) / (1 + choices * _choicePrior) : 1.0 / choices;

        private static double Ramp(int i, int n) => n == FullWeight + 1 ? 1.0 / n : 1.0 / n + (1 - 1.0 / n) * i / (n - FullWeight - 1);
    }
}
