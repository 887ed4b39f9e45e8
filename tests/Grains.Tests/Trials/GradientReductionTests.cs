using AdjointDpm.Grains.Trials;
using CsCheck;

namespace AdjointDpm.Grains.Tests.Trials;

public sealed class GradientReductionTests
{
    private static readonly Gen<(float[][] Gradients, int[] Weights, int Seed)> Cases =
        Gen.Select(Gen.Int[1, 17], Gen.Int[1, 9], Gen.Int[0, 1 << 20]).Select((shards, length, seed) =>
        {
            var random = new Random(seed);
            return (
                Enumerable.Range(0, shards).Select(_ => Enumerable.Range(0, length).Select(_ => (float)((random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-3, 4)))).ToArray()).ToArray(),
                Enumerable.Range(0, shards).Select(_ => random.Next(1, 6)).ToArray(),
                seed);
        });

    [Fact]
    public void AnyOrderOfArrival_GivesTheSameBits() => Cases.Sample(c =>
    {
        var expected = Reduce(c.Gradients, c.Weights, Enumerable.Range(0, c.Gradients.Length));
        var random = new Random(c.Seed + 1);
        for (var i = 0; i < 3; i++)
        {
            var order = Enumerable.Range(0, c.Gradients.Length).ToArray();
            random.Shuffle(order);
            Assert.Equal(expected.Select(BitConverter.SingleToInt32Bits), Reduce(c.Gradients, c.Weights, order).Select(BitConverter.SingleToInt32Bits));
        }
    });

    [Fact]
    public void Mean_IsTheWeightedMeanInDoubleToOneInAMillion() => Cases.Sample(c =>
    {
        var actual = Reduce(c.Gradients, c.Weights, Enumerable.Range(0, c.Gradients.Length));
        for (var i = 0; i < actual.Length; i++)
        {
            var expected = c.Gradients.Select((g, s) => (double)g[i] * c.Weights[s]).Sum() / c.Weights.Sum();
            var scale = c.Gradients.Select((g, s) => Math.Abs((double)g[i]) * c.Weights[s]).Sum() / c.Weights.Sum();
            Assert.InRange(Math.Abs(actual[i] - expected), 0, 1e-6 * scale);
        }
    });

    [Fact]
    public void Tree_IsPairsByLevel_WithTheOddOneMovingUp()
    {
        // In fp32 (1 + 2^-24) is 1, so the order shows: ((1 + e) + (e + e)) differs from a running sum.
        var e = MathF.Pow(2, -24);
        var sum = Reduce([[1], [e], [e], [e], [e]], [1, 1, 1, 1, 1], [4, 2, 0, 3, 1])[0] * 5;
        Assert.Equal((1 + e) + (e + e) + e, sum);
    }

    [Fact]
    public void ZeroWeights_AreLegalForAShardButNotForAll()
    {
        Assert.Equal(2f, Reduce([[2], [100]], [1, 0], [0, 1])[0]);
        Assert.Throws<InvalidOperationException>(() => Reduce([[2]], [0], [0]));
    }

    [Fact]
    public void Misuse_IsRefused()
    {
        var reduction = new GradientReduction(2, 1);
        reduction.Add(0, [1], 1);
        Assert.Throws<InvalidOperationException>(() => reduction.Add(0, [1], 1));
        Assert.Throws<ArgumentException>(() => reduction.Add(1, [1, 2], 1));
        Assert.Throws<InvalidOperationException>(() => reduction.Mean());
    }

    private static float[] Reduce(float[][] gradients, int[] weights, IEnumerable<int> order)
    {
        var reduction = new GradientReduction(gradients.Length, gradients[0].Length);
        foreach (var shard in order)
            reduction.Add(shard, (float[])gradients[shard].Clone(), weights[shard]);
        return reduction.Mean();
    }
}
