using System.Reflection;
using System.Runtime.CompilerServices;
using AdjointDpm.Samplers;

namespace AdjointDpm.Tests.Samplers;

public sealed class AdaptiveSolverTests
{
    private static readonly Lazy<double[][]> Truth = new(() => [.. Detest.Problems.Select(p => NumberSpace.Solve(ButcherTableau.Dopri8, new() { Relative = 1e-13, Absolute = 1e-13, MaxSteps = 100_000 }, p.Field, p.Start, 0, 20).End)]);

    // Evaluations summed over the 25 problems, and geometric mean of the root-mean-square end error: torchdiffeq's figures for the same pairs, landing on the end.
    [Theory]
    [InlineData("dopri5", 1e-3, 4670, 1.26e-2)]
    [InlineData("dopri5", 1e-6, 10580, 7.0e-6)]
    [InlineData("dopri5", 1e-9, 33146, 5.8e-9)]
    [InlineData("tsit5", 1e-3, 4868, 7.6e-3)]
    [InlineData("tsit5", 1e-6, 11468, 9.5e-6)]
    [InlineData("tsit5", 1e-9, 35450, 4.2e-8)]
    [InlineData("dopri8", 1e-3, 6615, 7.2e-4)]
    [InlineData("dopri8", 1e-6, 11477, 3.3e-7)]
    [InlineData("dopri8", 1e-9, 22477, 4.0e-10)]
    [InlineData("bosh3", 1e-3, 4619, 1.1e-2)]
    [InlineData("bosh3", 1e-6, 30125, 2.7e-5)]
    public void Detest_NeedsNoMoreEvaluationsAndErrsNoMore(string name, double tolerance, int mostNfe, double largestError)
    {
        var tableau = Tableau(name);
        var (nfe, logs) = (0, 0.0);
        for (var i = 0; i < Detest.Problems.Count; i++)
        {
            var problem = Detest.Problems[i];
            var (end, cost, _) = NumberSpace.Solve(tableau, new() { Relative = tolerance, Absolute = tolerance, MaxSteps = 100_000 }, problem.Field, problem.Start, 0, 20);
            nfe += cost;
            logs += Math.Log(Math.Sqrt(end.Zip(Truth.Value[i], (a, b) => (a - b) * (a - b)).Average()));
        }

        Assert.InRange(nfe, 1, mostNfe);
        Assert.InRange(Math.Exp(logs / Detest.Problems.Count), 0, largestError);
    }

    // torchode's documented example: four and two steps, all accepted.
    [Theory]
    [InlineData(0, 5, 4)]
    [InlineData(3, 4, 2)]
    public void LinearDecay_IntegralControl_TakesTheDocumentedSteps(double from, double to, int steps)
    {
        var control = new StepControl { Relative = 1e-3, Absolute = 1e-6, Proportional = 0, Integral = 1 };
        var (end, nfe, solver) = NumberSpace.Solve(ButcherTableau.Dopri5, control, (t, y, f) => (f[0], f[1]) = (-0.5 * y[0], -0.5 * y[1]), [1.2, 5], from, to);
        Assert.Equal((steps, 0, 2 + (6 * steps)), (solver.Accepted, solver.Rejected, nfe));
        Assert.Equal(5 * Math.Exp(-0.5 * (to - from)), end[1], 2e-3);
    }

    [Theory]
    [InlineData(1, 8)]
    [InlineData(8, 1)]
    public void EitherDirection_MeetsTheClosedForms(double from, double to)
    {
        static double Sine(double t) => (-Math.Pow(t, 4) * Math.Cos(2 * t) / 2) + (t * t * t * Math.Sin(2 * t) / 2) + (t * t * Math.Cos(2 * t) / 4) - (t * t * t) + (2 * Math.Pow(t, 4)) + ((Math.PI - 0.25) * t * t);
        static double Constant(double t) => (0.2 * t) + 3;
        foreach (var name in new[] { "bosh3", "dopri5", "tsit5", "dopri8" })
        {
            var control = new StepControl { Relative = 1e-7, Absolute = 1e-9 };
            var outside = 0;
            var (sine, _, _) = NumberSpace.Solve(Tableau(name), control, (t, y, f) => (f[0], outside) = ((2 * y[0] / t) + (Math.Pow(t, 4) * Math.Sin(2 * t)) - (t * t) + (4 * t * t * t), outside + (t is < 1 or > 8 ? 1 : 0)), [Sine(from)], from, to);
            var (constant, _, _) = NumberSpace.Solve(Tableau(name), control, (t, y, f) => f[0] = 0.2 + Math.Pow(y[0] - Constant(t), 5), [Constant(from)], from, to);
            Assert.InRange(Math.Abs((sine[0] / Sine(to)) - 1), 0, 3e-4);
            Assert.InRange(Math.Abs((constant[0] / Constant(to)) - 1), 0, 1e-12);
            Assert.Equal(0, outside);
        }
    }

    [Fact]
    public void Step_CutShortToLand_IsHitExactlyAndForgotten()
    {
        var solver = new AdaptiveSolver<double[]>(ButcherTableau.Tsit5, new() { Relative = 1e-6, Absolute = 1e-6 }, new NumberSpace(), (t, y) => ([-y[0]], 1));
        var lands = new List<double>();
        bool Note(double from, double to, ReadOnlySpan<double[]> slopes)
        {
            lands.Add(to);
            return false;
        }

        var y = solver.Advance([1], 0, 3, Note);
        var due = solver.NextStep;
        y = solver.Advance(y, 3, 3.0001, Note);
        Assert.True(solver.NextStep >= due, "a tiny last step must not shorten the next one");
        y = solver.Advance(y, 3.0001, 7, Note);
        Assert.Contains(3.0, lands);
        Assert.Contains(3.0001, lands);
        Assert.Equal(7, lands[^1]);
        Assert.Equal(Math.Exp(-7), y[0], 1e-6);
        Assert.Equal(lands.Count, solver.Accepted);
    }

    [Theory]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    public void FieldThatIsNotFiniteAhead_StepsAreRejectedUntilItIsSeenToBeTooNear(double bad)
    {
        var error = Assert.Throws<StepSizeException>(() => NumberSpace.Solve(ButcherTableau.Dopri5, new() { Relative = 1e-6, Absolute = 1e-6 }, (t, y, f) => f[0] = t > 1 ? bad : 1, [0], 0, 2));
        Assert.InRange(error.At, 1 - 1e-12, 1);
        Assert.False(double.IsFinite(error.ErrorRatio));
        Assert.InRange(error.Step, 0, 1e-14);
        Assert.Contains("too small at 1", error.Message);
        Assert.Contains("not finite", error.Message);
    }

    [Fact]
    public void TooManySteps_SaysWhereAndWhatToDo()
    {
        var error = Assert.Throws<StepSizeException>(() => NumberSpace.Solve(ButcherTableau.Dopri5, new() { Relative = 1e-9, Absolute = 1e-9, MaxSteps = 7 }, (t, y, f) => f[0] = y[0] * Math.Cos(t), [1], 0, 20));
        Assert.Equal(7, error.Attempts);
        Assert.Contains("more than 7 steps", error.Message);
        Assert.Contains("Loosen the tolerances", error.Message);
    }

    [Fact]
    public void RejectedStep_CostsNoFirstStage()
    {
        var (_, nfe, solver) = NumberSpace.Solve(ButcherTableau.Dopri8, new() { Relative = 1e-6, Absolute = 1e-6, InitialStep = 5 }, (t, y, f) => f[0] = y[0] * Math.Cos(5 * t), [1], 0, 10);
        Assert.True(solver.Rejected > 0);
        Assert.Equal((13 * solver.Accepted) + (12 * solver.Rejected), nfe);
        (_, nfe, solver) = NumberSpace.Solve(ButcherTableau.Dopri5, new() { Relative = 1e-6, Absolute = 1e-6, InitialStep = 5 }, (t, y, f) => f[0] = y[0] * Math.Cos(5 * t), [1], 0, 10);
        Assert.Equal(1 + (6 * (solver.Accepted + solver.Rejected)), nfe);
    }

    [Fact]
    public void Tolerances_HaveNoDefaultAndAreChecked()
    {
        foreach (var name in new[] { nameof(StepControl.Relative), nameof(StepControl.Absolute) })
            Assert.NotNull(typeof(StepControl).GetProperty(name)!.GetCustomAttribute<RequiredMemberAttribute>());
        Assert.Throws<ArgumentOutOfRangeException>(() => new StepControl { Relative = 0, Absolute = 1 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new StepControl { Relative = 1, Absolute = double.NaN });
        Assert.Throws<ArgumentOutOfRangeException>(() => new StepControl { Relative = 1, Absolute = 1, MaxSteps = 0 });
        Assert.Contains("no error estimate", Assert.Throws<ArgumentException>(() => new AdaptiveSampler(ButcherTableau.Rk4, new() { Relative = 1, Absolute = 1 })).Message);
    }

    private static ButcherTableau Tableau(string name) => name switch
    {
        "bosh3" => ButcherTableau.Bosh3,
        "dopri5" => ButcherTableau.Dopri5,
        "tsit5" => ButcherTableau.Tsit5,
        _ => ButcherTableau.Dopri8,
    };
}
