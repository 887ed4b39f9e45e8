using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Factorization;

namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>Bayesian optimisation: a Gaussian process over all parameters, and the point of the largest expected improvement.</summary>
/// <remarks>
/// Matérn 5/2 kernel with a length for each parameter (Snoek et al. 2012), its numbers at the maximum of their posterior; different listed
/// values are at distance one. Trials under way are taken to end as predicted. Of very many trials the best and the newest are looked at.
/// </remarks>
internal sealed class GaussianProcess(SearchSpace space, int seed, int concurrent) : ILearner
{
    private const int Startup = 10;
    private const int MostTrials = 128;
    private const int Spread = 1024;
    private const int Near = 5;

    private readonly int _n = space.Dimensions.Count;

    public int Needs(int trial) => trial < Startup ? 0 : trial - concurrent + 1;

    public double[] Suggest(int trial, IReadOnlyList<Observation> known, IReadOnlyList<double[]> pending)
    {
        var draws = new SearchDraws(seed, trial);
        var ended = known.Where(observation => double.IsFinite(observation.Loss)).ToList();
        if (trial < Startup || ended.Count < 2)
            return Sobol.Even(seed, trial, _n);
        known = [.. known.Select(observation => observation with { Point = space.Filled(observation.Point) })];
        var best = ended.MinBy(observation => observation.Loss).Loss;
        var worst = ended.Max(observation => observation.Loss);
        // A trial that failed says: not here.
        var seen = Chosen([.. known.Select(observation => double.IsFinite(observation.Loss) ? observation : observation with { Loss = worst })]);
        var model = Model.Fit(space, seen);
        foreach (var point in pending)
            model = model.With(space.Filled(point));
        return Best(model, model.Scaled(best), seen, draws, trial);
    }

    private static List<Observation> Chosen(List<Observation> known)
    {
        if (known.Count <= MostTrials)
            return known;
        var good = Enumerable.Range(0, known.Count).OrderBy(i => known[i].Loss).ThenBy(i => i).Take(MostTrials / 2).ToHashSet();
        var rest = Enumerable.Range(0, known.Count).Where(i => !good.Contains(i)).TakeLast(MostTrials / 2);
        return [.. good.Concat(rest).Order().Select(i => known[i])];
    }

    private double[] Best(Model model, double incumbent, List<Observation> seen, SearchDraws draws, int trial)
    {
        var shift = new SearchDraws(seed, trial);
        var shifts = Enumerable.Range(0, _n).Select(_ => (ulong)(shift.Uniform() * ulong.MaxValue)).ToArray();
        var candidates = Enumerable.Range(0, Spread)
            .Select(i => space.Filled([.. Enumerable.Range(0, _n).Select(d => Coordinate(d, d < Sobol.MostDimensions ? Sobol.At(i, d, shifts[d]) : draws.Uniform()))])).ToList();
        foreach (var observation in seen.OrderBy(observation => observation.Loss).Take(Near))
            for (var scale = 0.2; scale > 0.001; scale /= 2)
                for (var repeat = 0; repeat < 4; repeat++)
                    candidates.Add(space.Filled([.. observation.Point.Select((x, d) => space.Dimensions[d].Choices > 0 ? x : Math.Clamp(x + scale * draws.Normal(), 0, 1))]));
        var (best, score) = (candidates[0], double.NegativeInfinity);
        foreach (var start in candidates.Select((x, i) => (x, i, Score: model.LogImprovement(x, incumbent))).OrderByDescending(candidate => candidate.Score).ThenBy(candidate => candidate.i).Take(4))
        {
            var (x, height) = Climb(model, incumbent, start.x, start.Score);
            if (height > score)
                (best, score) = (x, height);
        }
        return [.. best.Select((x, d) => space.Dimensions[d].Choices is > 0 and var n ? (x + 0.5) / n : x)];
    }

    /// <summary>From [0, 1) to what points are made of.</summary>
    private double Coordinate(int d, double u) => space.Dimensions[d].Choices is > 0 and var n ? Math.Floor(u * n) : u;

    /// <summary>Pattern search: one parameter after the other, in steps that shrink.</summary>
    private (double[] X, double Score) Climb(Model model, double incumbent, double[] x, double score)
    {
        for (var step = 0.05; step > 0.0005; step /= 2)
        {
            for (var d = 0; d < _n; d++)
            {
                var moves = space.Dimensions[d].Choices is > 0 and var n ? Enumerable.Range(0, n).Select(choice => (double)choice) : [Math.Max(0, x[d] - step), Math.Min(1, x[d] + step)];
                foreach (var move in moves)
                {
                    var other = (double[])x.Clone();
                    other[d] = move;
                    other = space.Filled(other);
                    var height = model.LogImprovement(other, incumbent);
                    if (height > score)
                        (x, score) = (other, height);
                }
            }
        }
        return (x, score);
    }

    /// <summary>A Gaussian process with zero mean over losses that were shifted and scaled to mean 0 and variance 1.</summary>
    private sealed class Model
    {
        /// <summary>What log lengths, log variance and log noise are before anything is known: mean and standard deviation.</summary>
        private static readonly (double Mean, double Deviation) Length = (Math.Log(0.5), 1), Variance = (0, 1), Noise = (Math.Log(1e-4), 2);

        private readonly SearchSpace _space;
        private readonly List<double[]> _points;
        private readonly Vector<double> _losses;
        private readonly double[] _theta;
        private readonly double _shift;
        private readonly double _scale;
        private readonly Cholesky<double> _cholesky;
        private readonly Vector<double> _alpha;

        private Model(SearchSpace space, List<double[]> points, Vector<double> losses, double[] theta, double shift, double scale)
        {
            (_space, _points, _losses, _theta, _shift, _scale) = (space, points, losses, theta, shift, scale);
            _cholesky = Covariance().Cholesky();
            _alpha = _cholesky.Solve(losses);
        }

        private int Dimensions => _theta.Length - 2;

        public static Model Fit(SearchSpace space, List<Observation> seen)
        {
            var losses = Vector<double>.Build.DenseOfEnumerable(seen.Select(observation => observation.Loss));
            var shift = losses.Average();
            var scale = Math.Sqrt((losses - shift).PointwisePower(2).Average());
            if (!(scale > 0))
                scale = 1;
            losses = (losses - shift) / scale;
            double[] theta = [.. space.Dimensions.Select(_ => Length.Mean), Variance.Mean, Noise.Mean];
            List<double[]> points = [.. seen.Select(observation => observation.Point)];
            var (best, bestHeight) = (new Model(space, points, losses, theta, shift, scale), double.NegativeInfinity);
            var (model, before, steps) = (best, new double[theta.Length], Enumerable.Repeat(0.3, theta.Length).ToArray());
            // Resilient propagation (Riedmiller and Braun 1993): signs of the slope, a step of its own for each number.
            for (var iteration = 0; iteration < 40; iteration++)
            {
                var (height, slope) = model.Posterior();
                if (height > bestHeight)
                    (best, bestHeight) = (model, height);
                theta = (double[])theta.Clone();
                for (var i = 0; i < theta.Length; i++)
                {
                    var same = slope[i] * before[i];
                    steps[i] = Math.Clamp(steps[i] * (same > 0 ? 1.2 : same < 0 ? 0.5 : 1), 1e-4, 1);
                    theta[i] = Math.Clamp(theta[i] + Math.Sign(slope[i]) * steps[i], -14, 7);
                }
                before = slope;
                model = new Model(space, points, losses, theta, shift, scale);
            }
            return best;
        }

        /// <summary>The model that has also seen a point, with the loss that it predicts there.</summary>
        public Model With(double[] point) =>
            new(_space, [.. _points, point], Vector<double>.Build.DenseOfEnumerable([.. _losses, Predict(point).Mean]), _theta, _shift, _scale);

        public double Scaled(double loss) => (loss - _shift) / _scale;

        /// <summary>Logarithm of the expected improvement on a loss, in a form that does not vanish far from it.</summary>
        public double LogImprovement(double[] x, double incumbent)
        {
            var (mean, variance) = Predict(x);
            var sigma = Math.Sqrt(variance);
            var z = (incumbent - mean) / sigma;
            // φ(z) + z Φ(z) → φ(z) / z² for z → −∞ (Ament et al. 2023).
            return Math.Log(sigma) + (z > -25 ? Math.Log(Math.Max(Gaussian.Pdf(z) + z * Gaussian.Cdf(z), double.Epsilon)) : -0.5 * z * z - 0.5 * Math.Log(2 * Math.PI) - 2 * Math.Log(-z));
        }

        private (double Mean, double Variance) Predict(double[] x)
        {
            var k = Vector<double>.Build.Dense(_points.Count, i => Kernel(Squared(x, _points[i])));
            var v = Forward(_cholesky.Factor, k);
            return (k * _alpha, Math.Max(Math.Exp(_theta[Dimensions]) - v * v, 1e-12));
        }

        private static Vector<double> Forward(Matrix<double> lower, Vector<double> right)
        {
            var v = right.ToArray();
            for (var i = 0; i < v.Length; i++)
            {
                for (var j = 0; j < i; j++)
                    v[i] -= lower[i, j] * v[j];
                v[i] /= lower[i, i];
            }
            return Vector<double>.Build.Dense(v);
        }

        private double Difference(int d, double[] x, double[] y) => _space.Dimensions[d].Choices > 0 ? (x[d] == y[d] ? 0 : 1) : x[d] - y[d];

        private double Squared(double[] x, double[] y)
        {
            var sum = 0.0;
            for (var d = 0; d < x.Length; d++)
            {
                var difference = Difference(d, x, y) / Math.Exp(_theta[d]);
                sum += difference * difference;
            }
            return sum;
        }

        private double Kernel(double squared)
        {
            var r = Math.Sqrt(5 * squared);
            return Math.Exp(_theta[Dimensions] - r) * (1 + r + r * r / 3);
        }

        private Matrix<double> Covariance()
        {
            var n = _points.Count;
            var noise = Math.Exp(_theta[^1]) + 1e-10 * Math.Exp(_theta[Dimensions]);
            var k = Matrix<double>.Build.Dense(n, n);
            for (var i = 0; i < n; i++)
                for (var j = 0; j <= i; j++)
                    k[i, j] = k[j, i] = Kernel(Squared(_points[i], _points[j])) + (i == j ? noise + 1e-9 : 0);
            return k;
        }

        /// <summary>Log posterior of the kernel's numbers and its slope (Rasmussen and Williams 2006, equations 5.8 and 5.9).</summary>
        private (double Height, double[] Slope) Posterior()
        {
            var n = _points.Count;
            var height = -0.5 * (_losses * _alpha) - 0.5 * _cholesky.DeterminantLn;
            var inverse = _cholesky.Solve(Matrix<double>.Build.DenseIdentity(n));
            var slope = new double[_theta.Length];
            var variance = Math.Exp(_theta[Dimensions]);
            for (var i = 0; i < n; i++)
            {
                for (var j = 0; j <= i; j++)
                {
                    // Half of the trace, twice where the matrix is symmetric.
                    var outer = (_alpha[i] * _alpha[j] - inverse[i, j]) * (i == j ? 0.5 : 1);
                    var squared = Squared(_points[i], _points[j]);
                    var r = Math.Sqrt(5 * squared);
                    slope[Dimensions] += outer * Kernel(squared);
                    var common = outer * variance * 5.0 / 3 * (1 + r) * Math.Exp(-r);
                    for (var d = 0; d < Dimensions && i != j; d++)
                    {
                        var difference = Difference(d, _points[i], _points[j]) / Math.Exp(_theta[d]);
                        slope[d] += common * difference * difference;
                    }
                    if (i == j)
                        slope[^1] += outer * Math.Exp(_theta[^1]);
                }
            }
            for (var i = 0; i < _theta.Length; i++)
            {
                var (mean, deviation) = i < Dimensions ? Length : i == Dimensions ? Variance : Noise;
                var z = (_theta[i] - mean) / deviation;
                height -= 0.5 * z * z;
                slope[i] -= z / deviation;
            }
            return (height, slope);
        }
    }
}
