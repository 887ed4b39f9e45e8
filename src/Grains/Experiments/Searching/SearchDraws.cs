using AdjointDpm.Samplers;

namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>Random numbers of one suggestion, a function of seed and trial alone.</summary>
internal sealed class SearchDraws(int seed, int trial)
{
    private const int Block = 256;

    // A shard of its own: no noise of a training is drawn with it.
    private const ushort Stream = ushort.MaxValue;

    private readonly double[] _normals = new double[Block];
    private uint _blocks;
    private int _next = Block;

    public double Normal()
    {
        if (_next == Block)
        {
            CounterNoise.Fill(new NoiseKey((ulong)seed, (uint)trial, Stream), _blocks++, _normals);
            _next = 0;
        }
        return _normals[_next++];
    }

    /// <summary>In (0, 1).</summary>
    public double Uniform() => Gaussian.Cdf(Normal());

    /// <summary>An index, with the probabilities of weights.</summary>
    public int Index(ReadOnlySpan<double> weights)
    {
        var total = 0.0;
        foreach (var weight in weights)
            total += weight;
        var left = Uniform() * total;
        for (var i = 0; i < weights.Length - 1; i++)
            if ((left -= weights[i]) < 0)
                return i;
        return weights.Length - 1;
    }
}
