using AdjointDpm.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Scoring;

/// <summary>How far two sets of samples lie apart, by features of a network: distances between distributions, with an interval.</summary>
/// <remarks>Features of other networks than Inception v3 give other numbers than papers print: compare only what was measured with the same one.</remarks>
public static class FeatureStatistics
{
    /// <summary>Parts of the delete-group jackknife.</summary>
    private const int Groups = 10;

    /// <summary>Deviate of the 95 % interval.</summary>
    internal const double Deviate = 1.959964;

    /// <summary>Fréchet distance between Gaussians fitted to two sets (Heusel et al. 2017, eq. 6): ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½). Biased upwards for few samples.</summary>
    /// <param name="first">[N, D] features, float64 is computed in.</param>
    /// <param name="second">[M, D].</param>
    /// <exception cref="ArgumentException">They have other lengths, or a set has fewer than two rows.</exception>
    public static double FrechetDistance(Tensor first, Tensor second)
    {
        Check(first, second);
        using var scope = NewDisposeScope();
        using var quiet = no_grad();
        var (a, b) = (first.to(ScalarType.Float64), second.to(ScalarType.Float64));
        var gap = a.mean([0]) - b.mean([0]);
        var (ca, cb) = (Covariance(a), Covariance(b));
        // tr((Σ₁ Σ₂)^½) by a symmetric matrix with the same eigenvalues, which may come out a little below zero.
        var root = Root(ca);
        var cross = linalg.eigvalsh(root.matmul(cb).matmul(root)).clamp_min(Rooted.Zero).sqrt().sum();
        return Math.Max(0, gap.Squared().sum().item<double>() + ca.trace().item<double>() + cb.trace().item<double>() - (2 * cross.item<double>()));
    }

    /// <summary>Kernel distance (Bińkowski et al. 2018, KID): the unbiased estimate of the squared maximum mean discrepancy with the kernel (xᵀy / D + 1)³. It may come out below zero.</summary>
    /// <param name="first">[N, D] features.</param>
    /// <param name="second">[M, D].</param>
    /// <exception cref="ArgumentException">They have other lengths, or a set has fewer than two rows.</exception>
    public static double KernelDistance(Tensor first, Tensor second)
    {
        Check(first, second);
        using var scope = NewDisposeScope();
        using var quiet = no_grad();
        var (a, b) = (first.to(ScalarType.Float64), second.to(ScalarType.Float64));
        return WithoutItself(a) + WithoutItself(b) - (2 * Kernel(a, b).mean().item<double>());

        static double WithoutItself(Tensor x)
        {
            var kernel = Kernel(x, x);
            var n = (double)x.shape[0];
            return (kernel.sum().item<double>() - kernel.trace().item<double>()) / (n * (n - 1));
        }

        static Tensor Kernel(Tensor x, Tensor y)
        {
            var root = x.matmul(y.t()).Times(1.0 / x.shape[1]).Plus(Rooted.One);
            return root.Squared().mul(root);
        }
    }

    /// <summary>Mean Euclidean distance between two different rows of a set; 0 for fewer than two.</summary>
    /// <param name="features">[N, D].</param>
    public static double Diversity(Tensor features)
    {
        var n = features.shape[0];
        if (n < 2)
            return 0;
        using var scope = NewDisposeScope();
        using var quiet = no_grad();
        var x = features.to(ScalarType.Float64);
        return cdist(x, x).sum().item<double>() / ((double)n * (n - 1));
    }

    /// <summary>A distance with the half width of its 95 % interval by the delete-group jackknife (Kott 2001), ten groups of both sets.</summary>
    /// <param name="distance">Distance of two sets.</param>
    /// <param name="first">[N, D]; at least twenty rows.</param>
    /// <param name="second">[M, D]; at least twenty rows.</param>
    /// <exception cref="ArgumentException">A set is too small for ten groups of two.</exception>
    public static (double Value, double HalfWidth) WithInterval(Func<Tensor, Tensor, double> distance, Tensor first, Tensor second)
    {
        Check(first, second);
        if (Math.Min(first.shape[0], second.shape[0]) < 2 * Groups)
            throw new ArgumentException($"An interval needs at least {2 * Groups} samples in each set, but there are {first.shape[0]} and {second.shape[0]}.");
        using var scope = NewDisposeScope();
        var without = Enumerable.Range(0, Groups).Select(group => distance(Without(first, group), Without(second, group))).ToArray();
        var mean = without.Average();
        return (distance(first, second), Deviate * Math.Sqrt((Groups - 1.0) / Groups * without.Sum(value => (value - mean) * (value - mean))));

        static Tensor Without(Tensor set, int group) => set.index_select(0, tensor(Enumerable.Range(0, (int)set.shape[0]).Where(i => i % Groups != group).Select(i => (long)i).ToArray()));
    }

    private static Tensor Covariance(Tensor x)
    {
        var centred = x.sub(x.mean([0], keepdim: true));
        return centred.t().matmul(centred).Times(1.0 / (x.shape[0] - 1));
    }

    private static Tensor Root(Tensor symmetric)
    {
        var (values, vectors) = linalg.eigh(symmetric);
        return vectors.mul(values.clamp_min(Rooted.Zero).sqrt()).matmul(vectors.t());
    }

    private static void Check(Tensor first, Tensor second)
    {
        if (first.dim() != 2 || second.dim() != 2 || first.shape[1] != second.shape[1])
            throw new ArgumentException($"Features must be [N, D] and [M, D], but are [{string.Join(", ", first.shape)}] and [{string.Join(", ", second.shape)}].");
        if (Math.Min(first.shape[0], second.shape[0]) < 2)
            throw new ArgumentException($"A distance needs at least two samples in each set, but there are {first.shape[0]} and {second.shape[0]}.");
    }
}

/// <summary>A share with an interval that holds for few trials and for shares near 0 and 1.</summary>
public static class WilsonInterval
{
    /// <summary>Ends of the 95 % interval (Wilson 1927).</summary>
    /// <param name="successes">How often it was so.</param>
    /// <param name="trials">Out of how many.</param>
    /// <exception cref="ArgumentOutOfRangeException">There are no trials, or fewer than successes.</exception>
    public static (double Low, double High) Of(long successes, long trials)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(trials);
        ArgumentOutOfRangeException.ThrowIfNegative(successes);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(successes, trials);
        const double Z = FeatureStatistics.Deviate;
        var (share, n) = ((double)successes / trials, (double)trials);
        var middle = (share + (Z * Z / (2 * n))) / (1 + (Z * Z / n));
        var half = Z / (1 + (Z * Z / n)) * Math.Sqrt((share * (1 - share) / n) + (Z * Z / (4 * n * n)));
        return (Math.Max(0, middle - half), Math.Min(1, middle + half));
    }
}
