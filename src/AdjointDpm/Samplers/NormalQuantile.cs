namespace AdjointDpm.Samplers;

/// <summary>Inverse of the standard normal distribution function, to about 1e-16, from additions, products, divisions and square roots only.</summary>
/// <remarks>
/// Wichura (1988), algorithm AS 241 (PPND16). One uniform gives one normal, so a draw depends on nothing but its own counter.
/// The logarithm in the tails is computed here too: the C library's may differ in the last place between machines, and equal seeds must give equal bits.
/// </remarks>
internal static class NormalQuantile
{
    private static readonly double[] CentreTop = [2.5090809287301226727e+3, 3.3430575583588128105e+4, 6.7265770927008700853e+4, 4.5921953931549871457e+4, 1.3731693765509461125e+4, 1.9715909503065514427e+3, 1.3314166789178437745e+2, 3.3871328727963666080];
    private static readonly double[] CentreBottom = [5.2264952788528545610e+3, 2.8729085735721942674e+4, 3.9307895800092710610e+4, 2.1213794301586595867e+4, 5.3941960214247511077e+3, 6.8718700749205790830e+2, 4.2313330701600911252e+1, 1];
    private static readonly double[] TailTop = [7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258, 3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734];
    private static readonly double[] TailBottom = [1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187, 1];
    private static readonly double[] FarTop = [2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720];
    private static readonly double[] FarBottom = [2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1];

    /// <summary>The z with P(Z &lt; z) = p.</summary>
    /// <param name="p">Probability strictly between 0 and 1.</param>
    public static double At(double p)
    {
        var q = p - 0.5;
        if (Math.Abs(q) <= 0.425)
        {
            var centre = 0.180625 - (q * q);
            return q * Polynomial(CentreTop, centre) / Polynomial(CentreBottom, centre);
        }

        var r = Math.Sqrt(-Log(q < 0 ? p : 1 - p));
        var z = r <= 5
            ? Polynomial(TailTop, r - 1.6) / Polynomial(TailBottom, r - 1.6)
            : Polynomial(FarTop, r - 5) / Polynomial(FarBottom, r - 5);
        return q < 0 ? -z : z;
    }

    /// <summary>Natural logarithm of a positive normal number: exponent apart, then 2 artanh((m-1)/(m+1)) by its series.</summary>
    internal static double Log(double x)
    {
        var bits = BitConverter.DoubleToInt64Bits(x);
        var exponent = (int)(bits >> 52) - 1023;
        var mantissa = BitConverter.Int64BitsToDouble((bits & 0xFFFFFFFFFFFFF) | (1023L << 52));
        if (mantissa > 1.4142135623730951)
            (mantissa, exponent) = (mantissa / 2, exponent + 1);
        var s = (mantissa - 1) / (mantissa + 1);
        var square = s * s;
        var series = 0.0;
        // |s| < 0.172: the first term left out is below 1e-18.
        for (var k = 21; k >= 1; k -= 2)
            series = (series * square) + (1.0 / k);
        return (exponent * 0.6931471805599453) + (2 * s * series);
    }

    private static double Polynomial(double[] coefficients, double x)
    {
        var sum = 0.0;
        foreach (var c in coefficients)
            sum = (sum * x) + c;
        return sum;
    }
}
