using AdjointDpm.Samplers;

namespace AdjointDpm.Losses;

/// <summary>A square part of a picture, in pixels.</summary>
/// <param name="Top">First row.</param>
/// <param name="Left">First column.</param>
/// <param name="Side">Rows and columns.</param>
public readonly record struct Cutout(int Top, int Left, int Side);

/// <summary>Random square parts of a picture, each looked at by a network as if it were the whole: a loss then cannot be met by a pattern that the network sees at one scale and place only.</summary>
/// <remarks>
/// <para>As in VQGAN-CLIP (Crowson et al. 2022): side = ⌊lo + u^power (hi − lo)⌋ with hi the picture's shorter side, lo = <see cref="MinimumSide"/> · hi, and a place uniform among those that fit.</para>
/// <para>The parts are a pure function of seed, step and size of the picture (Philox counters, integers throughout): every worker, device and batch cuts the same, and a loss with cutouts stays a function of each sample alone. All samples of a step share them.</para>
/// </remarks>
/// <param name="Seed">Seed of the run.</param>
/// <param name="Count">Parts, 1 or more.</param>
/// <param name="Step">Optimiser step: another one cuts elsewhere. Default: 0.</param>
public sealed record CutoutPlan(ulong Seed, int Count, uint Step = 0)
{
    // Counter word of this use of the generator; noise has its shard there, below 2¹⁶.
    private const uint Stream = 0xC0700000;

    /// <summary>Smallest side, as a share of the picture's shorter one. Default: ½.</summary>
    public double MinimumSide { get; init; } = 0.5;

    /// <summary>Largest side, as a share of the picture's shorter one. Default: 1.</summary>
    public double MaximumSide { get; init; } = 1;

    /// <summary>Above 1 for more small parts, below 1 for more large ones. Default: 1.</summary>
    public double Power { get; init; } = 1;

    /// <summary>The parts for a picture.</summary>
    /// <param name="height">Its height in pixels.</param>
    /// <param name="width">Its width in pixels.</param>
    /// <exception cref="ArgumentException">The count is below 1, or the sides are not 0 &lt; minimum ≤ maximum ≤ 1.</exception>
    public IReadOnlyList<Cutout> For(long height, long width)
    {
        if (Count < 1 || !(MinimumSide > 0 && MinimumSide <= MaximumSide && MaximumSide <= 1) || !(Power > 0))
            throw new ArgumentException($"{Count} cutouts with sides from {MinimumSide} to {MaximumSide} and power {Power} cannot be cut. Give 1 or more, 0 < minimum ≤ maximum ≤ 1, and a power above 0.");
        var shorter = Math.Min(height, width);
        var cutouts = new Cutout[Count];
        Span<uint> words = stackalloc uint[4];
        for (var i = 0; i < Count; i++)
        {
            CounterNoise.Philox((uint)Seed, (uint)(Seed >> 32), (uint)i, 0, Step, Stream, words);
            var share = MinimumSide + (Math.Pow(Unit(words[0]), Power) * (MaximumSide - MinimumSide));
            var side = Math.Clamp((long)(share * shorter), 1, shorter);
            cutouts[i] = new((int)((height - side + 1) * Unit(words[1])), (int)((width - side + 1) * Unit(words[2])), (int)side);
        }

        return cutouts;

        static double Unit(uint word) => word / 4294967296.0;
    }
}
