using AdjointDpm.Samplers;

namespace AdjointDpm.Tests.Samplers;

/// <summary>A problem of the DETEST set: y' = f(t, y) from 0 to 20.</summary>
internal sealed record OdeProblem(string Name, double[] Start, Action<double, double[], double[]> Field)
{
    public override string ToString() => Name;
}

/// <summary>The 25 non-stiff problems of Hull, Enright, Fellen and Sedgwick (1972), "Comparing numerical methods for ordinary differential equations".</summary>
internal static class Detest
{
    public static IReadOnlyList<OdeProblem> Problems { get; } =
    [
        // A: single equations.
        new("A1", [1], (t, y, f) => f[0] = -y[0]),
        new("A2", [1], (t, y, f) => f[0] = -y[0] * y[0] * y[0] / 2),
        new("A3", [1], (t, y, f) => f[0] = y[0] * Math.Cos(t)),
        new("A4", [1], (t, y, f) => f[0] = y[0] / 4 * (1 - (y[0] / 20))),
        new("A5", [4], (t, y, f) => f[0] = (y[0] - t) / (y[0] + t)),

        // B: small systems.
        new("B1", [1, 3], (t, y, f) => (f[0], f[1]) = (2 * (y[0] - (y[0] * y[1])), -(y[1] - (y[0] * y[1])))),
        new("B2", [2, 0, 1], (t, y, f) => (f[0], f[1], f[2]) = (-y[0] + y[1], y[0] - (2 * y[1]) + y[2], y[1] - y[2])),
        new("B3", [1, 0, 0], (t, y, f) => (f[0], f[1], f[2]) = (-y[0], y[0] - (y[1] * y[1]), y[1] * y[1])),
        new("B4", [3, 0, 0], Torus),
        new("B5", [0, 1, 1], (t, y, f) => (f[0], f[1], f[2]) = (y[1] * y[2], -y[0] * y[2], -0.51 * y[0] * y[1])),

        // C: moderate systems.
        new("C1", Unit(10), (t, y, f) => Chain(y, f, i => 1)),
        new("C2", Unit(10), (t, y, f) => Chain(y, f, i => i + 1)),
        new("C3", Unit(10), (t, y, f) => Diffusion(y, f)),
        new("C4", Unit(51), (t, y, f) => Diffusion(y, f)),
        new("C5", OuterPlanets.Start, (t, y, f) => OuterPlanets.Field(y, f)),

        // D: orbits of growing eccentricity.
        Orbit("D1", 0.1), Orbit("D2", 0.3), Orbit("D3", 0.5), Orbit("D4", 0.7), Orbit("D5", 0.9),

        // E: equations of higher order.
        new("E1", [0.6713967071418030, 0.09540051444747446], (t, y, f) => (f[0], f[1]) = (y[1], -((y[1] / (t + 1)) + ((1 - (0.25 / ((t + 1) * (t + 1)))) * y[0])))),
        new("E2", [2, 0], (t, y, f) => (f[0], f[1]) = (y[1], ((1 - (y[0] * y[0])) * y[1]) - y[0])),
        new("E3", [0, 0], (t, y, f) => (f[0], f[1]) = (y[1], (y[0] * y[0] * y[0] / 6) - y[0] + (2 * Math.Sin(2.78535 * t)))),
        new("E4", [30, 0], (t, y, f) => (f[0], f[1]) = (y[1], 0.032 - (0.4 * y[1] * y[1]))),
        new("E5", [0, 0], (t, y, f) => (f[0], f[1]) = (y[1], Math.Sqrt(1 + (y[1] * y[1])) / (25 - t))),
    ];

    private static double[] Unit(int size) => [1, .. new double[size - 1]];

    private static void Torus(double t, double[] y, double[] f)
    {
        var r = Math.Sqrt((y[0] * y[0]) + (y[1] * y[1]));
        (f[0], f[1], f[2]) = (-y[1] - (y[0] * y[2] / r), y[0] - (y[1] * y[2] / r), y[0] / r);
    }

    // A radioactive decay chain; the last member is stable.
    private static void Chain(double[] y, double[] f, Func<int, double> rate)
    {
        for (var i = 0; i < y.Length; i++)
            f[i] = (i > 0 ? rate(i - 1) * y[i - 1] : 0) - (i < y.Length - 1 ? rate(i) * y[i] : 0);
    }

    private static void Diffusion(double[] y, double[] f)
    {
        for (var i = 0; i < y.Length; i++)
            f[i] = (i > 0 ? y[i - 1] : 0) - (2 * y[i]) + (i < y.Length - 1 ? y[i + 1] : 0);
    }

    private static OdeProblem Orbit(string name, double eccentricity) => new(name, [1 - eccentricity, 0, 0, Math.Sqrt((1 + eccentricity) / (1 - eccentricity))], (t, y, f) =>
    {
        var cube = Math.Pow((y[0] * y[0]) + (y[1] * y[1]), 1.5);
        (f[0], f[1], f[2], f[3]) = (y[2], y[3], -y[0] / cube, -y[1] / cube);
    });

    /// <summary>Problem C5: the five outer planets about the Sun.</summary>
    private static class OuterPlanets
    {
        private const double Gravity = 2.95912208286, Sun = 1.00000597682;
        private static readonly double[] Mass = [0.954786104043e-3, 0.285583733151e-3, 0.437273164546e-4, 0.517759138449e-4, 0.277777777778e-5];

        /// <summary>Three coordinates a planet, then the velocities.</summary>
        public static double[] Start { get; } =
        [
            3.42947415189, 3.35386959711, 1.35494901715, 6.64145542550, 5.97156957878, 2.18231499728, 11.2630437207, 14.6952576794, 6.27960525067,
            -30.1552268759, 1.65699966404, 1.43785752721, -21.1238353380, 28.4465098142, 15.3882659679,
            -0.557160570446, 0.505696783289, 0.230578543901, -0.415570776342, 0.365682722812, 0.169143213293, -0.325325669158, 0.189706021964, 0.0877265322780,
            -0.0240476254170, -0.287659532608, -0.117219543175, -0.176860753121, -0.216393453025, -0.0148647893090,
        ];

        public static void Field(double[] y, double[] f)
        {
            Array.Copy(y, 15, f, 0, 15);
            for (var i = 0; i < 5; i++)
            {
                for (var axis = 0; axis < 3; axis++)
                {
                    var pull = -(Sun + Mass[i]) * y[(3 * i) + axis] / Cube(y, i, -1);
                    for (var j = 0; j < 5; j++)
                    {
                        if (j != i)
                            pull += Mass[j] * (((y[(3 * j) + axis] - y[(3 * i) + axis]) / Cube(y, i, j)) - (y[(3 * j) + axis] / Cube(y, j, -1)));
                    }

                    f[15 + (3 * i) + axis] = Gravity * pull;
                }
            }
        }

        private static double Cube(double[] y, int i, int j)
        {
            var square = 0.0;
            for (var axis = 0; axis < 3; axis++)
            {
                var d = y[(3 * i) + axis] - (j < 0 ? 0 : y[(3 * j) + axis]);
                square += d * d;
            }

            return square * Math.Sqrt(square);
        }
    }
}

/// <summary>States of plain numbers.</summary>
internal sealed class NumberSpace : StateSpace<double[]>
{
    public override double[] Combine(double[] y, ReadOnlySpan<double> weights, ReadOnlySpan<double[]> vectors)
    {
        var sum = (double[])y.Clone();
        for (var j = 0; j < weights.Length; j++)
        {
            for (var i = 0; i < sum.Length && weights[j] != 0; i++)
                sum[i] += weights[j] * vectors[j][i];
        }

        return sum;
    }

    public override double Norm(ReadOnlySpan<double> weights, ReadOnlySpan<double[]> vectors, double[] before, double[] after, StepControl control)
    {
        var squares = 0.0;
        for (var i = 0; i < before.Length; i++)
        {
            var sum = 0.0;
            for (var j = 0; j < weights.Length; j++)
                sum += weights[j] * vectors[j][i];
            sum /= control.Absolute + (control.Relative * Math.Max(Math.Abs(before[i]), Math.Abs(after[i])));
            squares += sum * sum;
        }

        return Math.Sqrt(squares / before.Length);
    }

    /// <summary>Solves y' = f(t, y).</summary>
    public static (double[] End, int Nfe, AdaptiveSolver<double[]> Solver) Solve(ButcherTableau tableau, StepControl control, Action<double, double[], double[]> field, double[] start, double from, double to, AdaptiveSolver<double[]>.AcceptedStep? accepted = null)
    {
        var nfe = 0;
        var solver = new AdaptiveSolver<double[]>(tableau, control, new NumberSpace(), (t, y) =>
        {
            nfe++;
            var slope = new double[y.Length];
            field(t, y, slope);
            return (slope, 1);
        });
        return (solver.Advance(start, from, to, accepted), nfe, solver);
    }
}
