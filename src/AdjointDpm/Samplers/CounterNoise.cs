using AdjointDpm.Native;
using static TorchSharp.torch;

namespace AdjointDpm.Samplers;

/// <summary>Names a stream of normal draws. Equal keys give equal bits on every machine, device and batch size.</summary>
/// <param name="Seed">Seed of the run.</param>
/// <param name="Step">Optimiser step.</param>
/// <param name="Shard">Logical shard of the step.</param>
/// <param name="Draw">Which draw within the shard: 0 is the initial noise x_T, n + 1 the noise of sampler step n.</param>
public readonly record struct NoiseKey(ulong Seed, uint Step = 0, ushort Shard = 0, ushort Draw = 0);

/// <summary>Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").</summary>
/// <remarks>A draw is a pure function of key, sample index and element index, so it depends neither on what was drawn before nor on how samples are batched.</remarks>
public static class CounterNoise
{
    /// <summary>Standard normal noise. The first axis counts samples; sample i of the key is the same whatever the batch it is drawn in.</summary>
    /// <param name="key">Stream of draws.</param>
    /// <param name="shape">Shape, [samples, …].</param>
    /// <param name="dtype">Floating dtype; values are drawn in double and rounded. Default: float32.</param>
    /// <param name="device">Where the tensor is put. Default: CPU.</param>
    /// <param name="firstSample">Index of the first sample within the shard. Default: 0.</param>
    /// <returns>A new tensor that does not require grad, in the current dispose scope.</returns>
    /// <exception cref="ArgumentException">The shape is empty or has a dimension below 1.</exception>
    public static Tensor Normal(NoiseKey key, ReadOnlySpan<long> shape, ScalarType dtype = ScalarType.Float32, Device? device = null, uint firstSample = 0)
    {
        if (shape.IsEmpty || shape.ContainsAnyInRange(long.MinValue, 0))
            throw new ArgumentException($"Noise needs a shape of positive dimensions starting with the number of samples, got [{string.Join(", ", shape.ToArray())}].", nameof(shape));
        NativeTorch.EnsureLoaded();
        var samples = checked((int)shape[0]);
        var size = 1;
        foreach (var dimension in shape[1..])
            size = checked(size * (int)dimension);
        var values = new double[checked(samples * size)];
        for (var i = 0; i < samples; i++)
            Fill(key, firstSample + (uint)i, values.AsSpan(i * size, size));
        using var scope = NewDisposeScope();
        var noise = tensor(values, shape.ToArray(), ScalarType.Float64);
        return noise.to(dtype, device ?? CPU).MoveToOuterDisposeScope();
    }

    /// <summary>Fills a span with the standard normal draws of one sample.</summary>
    /// <param name="key">Stream of draws.</param>
    /// <param name="sample">Index of the sample within the shard.</param>
    /// <param name="destination">Receives elements 0, 1, 2, … of the sample.</param>
    public static void Fill(NoiseKey key, uint sample, Span<double> destination)
    {
        Span<uint> block = stackalloc uint[4];
        for (var i = 0; i < destination.Length; i++)
        {
            if ((i & 1) == 0)
                Philox((uint)key.Seed, (uint)(key.Seed >> 32), (uint)(i >> 1), sample, key.Step, ((uint)key.Shard << 16) | key.Draw, block);
            // 52 bits and a half, so that neither 0 nor 1 can come out.
            var bits = (((ulong)block[2 * (i & 1)] << 32) | block[(2 * (i & 1)) + 1]) >> 12;
            destination[i] = NormalQuantile.At((bits + 0.5) / (1UL << 52));
        }
    }

    /// <summary>Ten rounds of Philox4x32: four 32-bit words from a 64-bit key and a 128-bit counter.</summary>
    internal static void Philox(uint k0, uint k1, uint c0, uint c1, uint c2, uint c3, Span<uint> result)
    {
        for (var round = 0; round < 10; round++)
        {
            ulong p0 = (ulong)c0 * 0xD2511F53, p1 = (ulong)c2 * 0xCD9E8D57;
            (c0, c1, c2, c3) = ((uint)(p1 >> 32) ^ c1 ^ k0, (uint)p1, (uint)(p0 >> 32) ^ c3 ^ k1, (uint)p0);
            k0 += 0x9E3779B9;
            k1 += 0xBB67AE85;
        }

        (result[0], result[1], result[2], result[3]) = (c0, c1, c2, c3);
    }
}
