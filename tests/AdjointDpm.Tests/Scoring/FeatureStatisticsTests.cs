using AdjointDpm.Scoring;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Scoring;

public sealed class FeatureStatisticsTests
{
    private static Tensor Draw(ulong seed, int n, double[] mean, double[] deviation) =>
        CounterNoise.Normal(new NoiseKey(seed), [n, mean.Length], ScalarType.Float64) * tensor(deviation) + tensor(mean);

    /// <summary>Rows whose mean and covariance are exactly those given: the corners of a box.</summary>
    private static Tensor Corners(double[] mean, double[] deviation)
    {
        var n = 1 << mean.Length;
        var rows = new double[n, mean.Length];
        for (var i = 0; i < n; i++)
            for (var d = 0; d < mean.Length; d++)
                rows[i, d] = mean[d] + ((i >> d & 1) == 0 ? -1 : 1) * deviation[d] * Math.Sqrt((n - 1.0) / n);
        return tensor(rows);
    }

    [Fact]
    public void FrechetDistance_OfGaussiansWithCommonAxes_IsTheClosedForm()
    {
        double[] m1 = [1, -2, 0.5], s1 = [1, 2, 0.3], m2 = [0, 1, 0.5], s2 = [0.5, 2, 1.1];
        using var first = Corners(m1, s1);
        using var second = Corners(m2, s2);
        // Means apart, and deviations apart along each axis.
        var expected = m1.Zip(m2, (a, b) => (a - b) * (a - b)).Sum() + s1.Zip(s2, (a, b) => (a - b) * (a - b)).Sum();
        Assert.Equal(expected, FeatureStatistics.FrechetDistance(first, second), 1e-9);
        Assert.Equal(0, FeatureStatistics.FrechetDistance(first, first), 1e-7);
    }

    [Fact]
    public void FrechetDistance_DoesNotDependOnTheBasis()
    {
        using var first = Draw(1, 200, [0, 0, 0, 0], [1, 2, 0.5, 1]);
        using var second = Draw(2, 150, [1, 0, 0, -1], [1, 1, 1, 2]);
        using var random = Draw(3, 4, [0, 0, 0, 0], [1, 1, 1, 1]);
        var (rotation, _) = linalg.qr(random);
        Assert.Equal(FeatureStatistics.FrechetDistance(first, second), FeatureStatistics.FrechetDistance(first.matmul(rotation), second.matmul(rotation)), 1e-8);
    }

    /// <summary>Every term of the double sums, one after the other.</summary>
    [Fact]
    public void KernelDistance_IsTheSumOverPairs()
    {
        using var first = Draw(4, 7, [0, 0], [1, 1]);
        using var second = Draw(5, 5, [1, 0], [1, 2]);
        var (a, b) = (Rows(first), Rows(second));
        double Kernel(double[] x, double[] y) => Math.Pow((x[0] * y[0] + x[1] * y[1]) / 2 + 1, 3);
        double Own(double[][] x) => x.SelectMany((p, i) => x.Where((_, j) => i != j).Select(q => Kernel(p, q))).Average();
        var expected = Own(a) + Own(b) - 2 * a.SelectMany(p => b.Select(q => Kernel(p, q))).Average();
        Assert.Equal(expected, FeatureStatistics.KernelDistance(first, second), 1e-10);

        static double[][] Rows(Tensor x) => [.. Enumerable.Range(0, (int)x.shape[0]).Select(i => x[i].data<double>().ToArray())];
    }

    [Fact]
    public void KernelDistance_OfEqualDistributions_IsZeroInTheMean_AndItsIntervalHolds()
    {
        var inside = 0;
        var values = new List<double>();
        for (ulong seed = 1; seed <= 60; seed++)
        {
            using var first = Draw(2 * seed + 100, 60, [0, 0], [1, 1]);
            using var second = Draw(2 * seed + 101, 80, [0, 0], [1, 1]);
            var (value, half) = FeatureStatistics.WithInterval(FeatureStatistics.KernelDistance, first, second);
            values.Add(value);
            inside += Math.Abs(value) <= half ? 1 : 0;
        }
        var mean = values.Average();
        var error = Math.Sqrt(values.Sum(value => (value - mean) * (value - mean)) / (60 * 59));
        Assert.True(Math.Abs(mean) < 3 * error, $"The mean of 60 estimates is {mean} ± {error} instead of zero.");
        // 57 of 60 are expected; ten groups make the interval itself uncertain.
        Assert.InRange(inside, 50, 60);
    }

    [Fact]
    public void Diversity_IsTheMeanDistanceOfPairs()
    {
        using var points = tensor(new double[,] { { 0, 0 }, { 3, 4 }, { 0, 0 } });
        Assert.Equal(10.0 / 3, FeatureStatistics.Diversity(points), 1e-12);
        Assert.Equal(0, FeatureStatistics.Diversity(points[..1]));
    }

    [Theory]
    // The formula evaluated by another program.
    [InlineData(0, 10, 0, 0.2775328)]
    [InlineData(9, 10, 0.5958500, 0.9821238)]
    [InlineData(200, 200, 0.9811547, 1)]
    [InlineData(50, 100, 0.4038315, 0.5961685)]
    public void Wilson_IsThatOfTables(long successes, long trials, double low, double high)
    {
        var interval = WilsonInterval.Of(successes, trials);
        Assert.Equal(low, interval.Low, 1e-6);
        Assert.Equal(high, interval.High, 1e-6);
    }

    [Fact]
    public void WrongShapes_AreNamed()
    {
        using var three = zeros(30, 3);
        using var four = zeros(30, 4);
        Assert.Contains("but are [30, 3] and [30, 4]", Assert.Throws<ArgumentException>(() => FeatureStatistics.FrechetDistance(three, four)).Message, StringComparison.Ordinal);
        Assert.Contains("at least 20 samples", Assert.Throws<ArgumentException>(() => FeatureStatistics.WithInterval(FeatureStatistics.KernelDistance, three[..19], three)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => WilsonInterval.Of(1, 0));
    }
}
