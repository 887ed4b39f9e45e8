namespace AdjointDpm.Samplers;

/// <summary>Integrals of Lagrange polynomials: the weights of multistep methods on unequal steps.</summary>
internal static class Interpolation
{
    /// <summary>∫ l_k(rho) drho from one value to another, for the Lagrange polynomials l_k of nodes in rho: Adams–Bashforth. Hairer, Nørsett and Wanner, III.5.</summary>
    public static double[] InRho(ReadOnlySpan<double> nodes, double from, double to)
        => Weights(nodes, from, power => Math.Pow(to - from, power + 1) / (power + 1));

    /// <summary>∫ l_k(log rho) drho for polynomials in log rho: DEIS. Zhang and Chen (2023), section 3.3.</summary>
    public static double[] InLogRho(ReadOnlySpan<double> nodes, double from, double to)
    {
        var logs = new double[nodes.Length];
        for (var k = 0; k < logs.Length; k++)
            logs[k] = Math.Log(nodes[k]);
        var v = Math.Log(to / from);
        return Weights(logs, Math.Log(from), power => from * Moment(power, v));
    }

    // With rho = from e^w: ∫_0^v w^p e^w dw = e^v v^(p+1) p! phi_(p+1)(-v), which does not cancel for small steps.
    private static double Moment(int power, double v)
    {
        var factorial = 1.0;
        for (var j = 2; j <= power; j++)
            factorial *= j;
        return Math.Exp(v) * Math.Pow(v, power + 1) * factorial * Phi.At(power + 1, -v);
    }

    // The k-th polynomial in powers of (x - from): products of (x - node) / (node_k - node), integrated power by power.
    private static double[] Weights(ReadOnlySpan<double> nodes, double from, Func<int, double> moment)
    {
        var weights = new double[nodes.Length];
        for (var k = 0; k < nodes.Length; k++)
        {
            double[] polynomial = [1];
            for (var j = 0; j < nodes.Length; j++)
            {
                if (j == k)
                    continue;
                var next = new double[polynomial.Length + 1];
                for (var p = 0; p < polynomial.Length; p++)
                {
                    next[p] += polynomial[p] * (from - nodes[j]) / (nodes[k] - nodes[j]);
                    next[p + 1] += polynomial[p] / (nodes[k] - nodes[j]);
                }

                polynomial = next;
            }

            for (var p = 0; p < polynomial.Length; p++)
                weights[k] += polynomial[p] * moment(p);
        }

        return weights;
    }
}
