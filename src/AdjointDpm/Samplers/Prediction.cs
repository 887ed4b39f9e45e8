using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>What a network predicts for x = alpha x0 + sigma eps.</summary>
public enum Prediction
{
    /// <summary>The noise eps.</summary>
    Epsilon,

    /// <summary>Salimans and Ho's velocity v = alpha eps - sigma x0; "v_prediction" in diffusers.</summary>
    Velocity,

    /// <summary>The clean sample x0; "sample" in diffusers.</summary>
    Sample,

    /// <summary>The velocity of flow matching, eps - x0.</summary>
    Flow,

    /// <summary>The score of the noisy density, -eps / sigma.</summary>
    Score,
}

/// <summary>Conversions between predictions: all are combinations of x0 and eps, as x is, so each follows from x and any other.</summary>
public static class PredictionConversion
{
    /// <summary>Writes a wanted prediction as <c>ofX x + ofGiven given</c>.</summary>
    /// <param name="given">What the network predicts.</param>
    /// <param name="wanted">What is asked for.</param>
    /// <param name="level">Noise level of x.</param>
    /// <returns>The two weights, dimensionless up to the units of x.</returns>
    /// <exception cref="InvalidOperationException">At this level x and the given prediction do not determine the wanted one: eps says nothing about x0 where there is no signal, nor x0 about eps where there is no noise.</exception>
    public static (double OfX, double OfGiven) To(this Prediction given, Prediction wanted, NoiseLevel level)
    {
        if (given == wanted)
            return (0, 1);
        var (a, s) = level;
        var (g0, g1) = Parts(given, level);
        var (w0, w1) = Parts(wanted, level);
        // Solve p (a, s) + q (g0, g1) = (w0, w1).
        var determinant = (a * g1) - (s * g0);
        var (ofX, ofGiven) = (((w0 * g1) - (w1 * g0)) / determinant, ((a * w1) - (s * w0)) / determinant);
        if (!double.IsFinite(ofX) || !double.IsFinite(ofGiven))
            throw new InvalidOperationException($"A network that predicts {given} does not determine {wanted} at alpha = {a}, sigma = {s}. {(s == 0 ? "Do not evaluate it where there is no noise" : "Start below pure noise, or use a network that predicts Velocity, Flow or Sample")}.");
        return (ofX, ofGiven);
    }

    // Coefficients of x0 and eps.
    private static (double OfSample, double OfNoise) Parts(Prediction prediction, NoiseLevel level) => prediction switch
    {
        Prediction.Epsilon => (0, 1),
        Prediction.Velocity => (-level.Sigma, level.Alpha),
        Prediction.Sample => (1, 0),
        Prediction.Flow => (-1, 1),
        Prediction.Score => (0, -1 / level.Sigma),
        _ => throw new ArgumentOutOfRangeException(nameof(prediction), prediction, "Unknown prediction."),
    };
}
