using MathNet.Numerics;

namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>The standard normal distribution.</summary>
internal static class Gaussian
{
    private static readonly double RootTwoPi = Math.Sqrt(2 * Math.PI);

    public static double Pdf(double z) => Math.Exp(-0.5 * z * z) / RootTwoPi;

    public static double Cdf(double z) => 0.5 * SpecialFunctions.Erfc(-z / Math.Sqrt(2));

    public static double Quantile(double p) => -Math.Sqrt(2) * SpecialFunctions.ErfcInv(2 * p);
}
