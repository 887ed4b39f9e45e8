namespace AdjointDpm.Samplers;

/// <summary>The functions of exponential integrators: phi_0 = e^z, phi_(k+1) = (phi_k - 1/k!) / z, and phi_k(0) = 1/k!. Hochbruck and Ostermann (2010), equation 2.10.</summary>
internal static class Phi
{
    /// <summary>phi_k(z) to rounding, also where the recursion cancels.</summary>
    public static double At(int k, double z)
    {
        if (Math.Abs(z) > 1)
        {
            var phi = Math.Exp(z);
            var factorial = 1.0;
            for (var j = 0; j < k; j++)
            {
                phi = (phi - (1 / factorial)) / z;
                factorial *= j + 1;
            }

            return phi;
        }

        // Sum of z^j / (j + k)!, the series.
        var term = 1.0;
        for (var j = 2; j <= k; j++)
            term /= j;
        double sum = 0;
        for (var j = 1; Math.Abs(term) > 1e-18 * Math.Abs(sum); j++)
        {
            sum += term;
            term *= z / (j + k);
        }

        return sum;
    }
}
