using AdjointDpm.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>How the length of the noise is held to what noise has.</summary>
public enum NoiseNormKind
{
    /// <summary>−log p(‖x_T‖) under the chi distribution of d values, in nats: ½‖x‖² − (d − 1) log‖x‖ + (d/2 − 1) log 2 + log Γ(d/2). Least at ‖x‖² = d − 1, infinite at a noise of zeros.</summary>
    ChiLogDensity,

    /// <summary>(‖x_T‖ − √d)², in squared units of the noise. Least at ‖x‖² = d.</summary>
    SquaredDeviation,
}

/// <summary>Keeps an initial noise x_T, while it is optimised, as long as noise is: of d standard normal values nearly every draw has a length within 1 or 2 of √d, and a model knows no other.</summary>
/// <remarks>
/// <para>A loss of x_T, not of the sample: [B, …], one value for each noise, d the number of values of one. The chi form is of norm-aware optimisation (Samuel et al. 2023, "Norm-guided latent space
/// exploration for text-to-image generation"), taken up by ReNO (Eyring et al. 2024), which leaves the constants out. DOODL (Wallace et al. 2023) sets the length back instead of penalising it: the squared deviation with an infinite weight.</para>
/// <para>Written about the minimum, so that nothing cancels in float32: with m = d − 1 and δ = (‖x‖² − m) / m, ½‖x‖² − m log‖x‖ is m/2 · (δ − log(1 + δ)) and a constant.</para>
/// </remarks>
/// <param name="kind">Which form.</param>
public sealed class NoiseNormLoss(NoiseNormKind kind) : SampleLoss
{
    // Under a root, so that its derivative is finite for a noise of zeros.
    private static readonly Scalar Tiny = 1e-30;

    /// <inheritdoc/>
    /// <param name="samples">Noises x_T, [B, …], float32 or float64.</param>
    /// <exception cref="ArgumentException">A noise has fewer than two values, of which the chi form has no minimum.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var squares = samples.flatten(1).Squared().sum([1]);
        double d = samples.shape.AsSpan(1).ToArray().Aggregate(1L, (a, b) => a * b);
        if (kind == NoiseNormKind.SquaredDeviation)
        {
            Scalar typical = Math.Sqrt(d);
            var squared = squares.Plus(Tiny).sqrt().sub(typical).Squared();
            GC.KeepAlive(typical);
            return squared.MoveToOuterDisposeScope();
        }

        if (d < 2)
            throw new ArgumentException($"A noise of {d} value has no typical length above 0. Use {nameof(NoiseNormKind.SquaredDeviation)}.", nameof(samples));
        var m = d - 1;
        var least = (m / 2) - (m / 2 * Math.Log(m)) + (((d / 2) - 1) * Math.Log(2)) + LogGamma(d / 2);
        Scalar mode = m, half = m / 2, constant = least;
        var excess = squares.sub(mode).div(mode);
        var nats = excess.sub(excess.log1p()).mul(half).Plus(constant);
        GC.KeepAlive((mode, half, constant));
        return nats.MoveToOuterDisposeScope();
    }

    // Stirling's series; moved up by the recurrence until its error is below the rounding of a double.
    private static double LogGamma(double z)
    {
        var shift = 0.0;
        for (; z < 12; z++)
            shift -= Math.Log(z);
        var square = z * z;
        return shift + ((z - 0.5) * Math.Log(z)) - z + (0.5 * Math.Log(2 * Math.PI)) + ((1 / 12.0 - ((1 / 360.0 - ((1 / 1260.0 - (1 / 1680.0 / square)) / square)) / square)) / z);
    }
}
