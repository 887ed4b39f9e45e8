namespace AdjointDpm.Schedules;

/// <summary>log(1 + x) and e^x - 1 to rounding for small x. .NET's LogP1 and ExpM1 add and subtract the 1, and lose what these are for: noise levels near the clean end.</summary>
internal static class Accurate
{
    /// <summary>log(1 + x). Kahan's form: the rounding of 1 + x cancels in the quotient.</summary>
    public static double Log1p(double x)
    {
        var u = 1 + x;
        return u == 1 ? x : double.IsInfinity(u) || u == 0 ? Math.Log(u) : Math.Log(u) * x / (u - 1);
    }

    /// <summary>e^x - 1. Kahan's form.</summary>
    public static double Expm1(double x)
    {
        var u = Math.Exp(x);
        return u == 1 ? x : u == 0 || double.IsInfinity(u) ? u - 1 : (u - 1) * x / Math.Log(u);
    }
}
