using AdjointDpm.Models;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Samplers;

public sealed class CounterNoiseTests
{
    // Known answers of the Random123 distribution, kat_vectors, philox4x32 10.
    [Theory]
    [InlineData(0u, 0u, 0u, 0u, 0u, 0u, 0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u)]
    [InlineData(~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu)]
    [InlineData(0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u, 0xa4093822u, 0x299f31d0u, 0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u)]
    public void Philox_KnownCounters_GivesRandom123Words(uint c0, uint c1, uint c2, uint c3, uint k0, uint k1, uint r0, uint r1, uint r2, uint r3)
    {
        Span<uint> result = stackalloc uint[4];
        CounterNoise.Philox(k0, k1, c0, c1, c2, c3, result);
        Assert.Equal([r0, r1, r2, r3], result.ToArray());
    }

    // From Python's statistics.NormalDist().inv_cdf.
    [Theory]
    [InlineData(0.5, 0)]
    [InlineData(0.6, 0.2533471031357997)]
    [InlineData(0.975, 1.9599639845400539)]
    [InlineData(1e-4, -3.7190164854556804)]
    [InlineData(1e-12, -7.034483825301132)]
    public void NormalQuantile_KnownProbabilities_IsTheInverseDistribution(double p, double expected)
        => Assert.Equal(expected, NormalQuantile.At(p), 1e-14 * Math.Max(1, Math.Abs(expected)));

    [Fact]
    public void Log_WholeRange_AgreesWithTheLibraryToRounding()
    {
        for (var x = 1e-16; x < 0.5; x *= 1.37)
            Assert.Equal(Math.Log(x), NormalQuantile.Log(x), 2e-15 * Math.Abs(Math.Log(x)));
    }

    [Fact]
    public void Normal_InChunks_IsTheSameAsAtOnce()
    {
        using var scope = NewDisposeScope();
        var key = new NoiseKey(42, Step: 3, Shard: 2);
        var whole = CounterNoise.Normal(key, [6, 3, 5]);
        var parts = cat([CounterNoise.Normal(key, [1, 3, 5]), CounterNoise.Normal(key, [4, 3, 5], firstSample: 1), CounterNoise.Normal(key, [1, 3, 5], firstSample: 5)], 0);
        Assert.True(whole.equal(parts).all().IsTrue());
        Assert.True(whole.equal(CounterNoise.Normal(key, [6, 3, 5], ScalarType.Float64).to(ScalarType.Float32)).all().IsTrue());
    }

    [Fact]
    public void Normal_EveryPartOfTheKey_Matters()
    {
        using var scope = NewDisposeScope();
        NoiseKey[] keys = [new(1), new(2), new(1UL << 40), new(1, Step: 1), new(1, Shard: 1), new(1, Draw: 1)];
        var draws = keys.Select(k => CounterNoise.Normal(k, [1, 8], ScalarType.Float64).data<double>().ToArray()).ToArray();
        Assert.Equal(draws.Length * 8, draws.SelectMany(d => d).Distinct().Count());
    }

    [Fact]
    public void Normal_ManyDraws_HasTheMomentsOfTheNormal()
    {
        var values = new double[200_000];
        CounterNoise.Fill(new(9), 0, values);
        var mean = values.Average();
        var variance = values.Average(v => v * v) - (mean * mean);
        Assert.Equal(0, mean, 0.01);
        Assert.Equal(1, variance, 0.015);
        Assert.Equal(3, values.Average(v => v * v * v * v), 0.08);
        Assert.Equal(0.0227501, values.Count(v => v > 2) / (double)values.Length, 0.0015);
    }

    [Fact]
    public void Normal_EmptyShape_SaysWhatIsNeeded()
        => Assert.Contains("positive dimensions", Assert.Throws<ArgumentException>(() => CounterNoise.Normal(new(1), [2, 0])).Message, StringComparison.Ordinal);
}
