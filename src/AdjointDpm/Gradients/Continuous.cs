using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The continuous adjoint in the sampler's coordinates, y = x / scale over s with slope f: dp/ds = -scale (∂f/∂x)ᵀ p beside dy/ds = f, solved from the sample back to the noise over each interval. In rho, f is eps and the scale alpha.</summary>
/// <remarks>Pan et al. (2024), equation 10, as their code runs it: y is reset to the stored state at the clean end of every interval, and the inputs' gradients are plain quadratures of -(∂eps/∂input)ᵀ p, never part of the state.</remarks>
internal sealed class Continuous(ButcherTableau? backward) : GradientMethod(backward is null ? "continuous" : $"continuous({backward.Name})")
{
    internal override Sweep Begin(Solve solve)
    {
        var sampler = solve.Request.Sampler;
        RefuseControls(solve);
        if (sampler.IsStochastic)
            throw new NotSupportedException($"The continuous adjoint solves an ordinary differential equation, and sampler '{sampler.Name}' is stochastic. Use GradientMethod.Discrete.");
        foreach (var point in solve.Request.Grid.Points)
        {
            if (!sampler.Coordinates.IsRegular(point.Level))
                throw new NotSupportedException($"The continuous adjoint evaluates the network at every point of the grid, and its equation in {sampler.Coordinates.Name} does not exist at rho = {point.Rho}. Keep the grid between the schedule's RhoMin and a finite RhoMax, sample in flow coordinates as {Sampler.FlowHeun} does, or use GradientMethod.Discrete.");
        }

        var tableau = backward ?? sampler.Backward
            ?? throw new NotSupportedException($"Sampler '{sampler.Name}' is no Runge–Kutta method, so the continuous adjoint needs one for its way back: GradientMethod.Continuous(ButcherTableau.Heun).");
        WarnOfCoarseSteps(solve);
        return new Backsolve(solve, tableau);
    }

    // Off the data, where eps = y / rho, a step from rho_b up to rho_a should multiply p by rho_b / rho_a; Euler's method gives 2 - rho_a / rho_b.
    private static void WarnOfCoarseSteps(Solve solve)
    {
        var points = solve.Request.Grid.Points;
        var (worst, step) = points.Zip(points.Skip(1), (a, b) => Math.Max(a.Rho / b.Rho, b.Rho / a.Rho)).Select((ratio, n) => (ratio, n)).MaxBy(r => double.IsFinite(r.ratio) ? r.ratio : 0);
        if (worst > 2 && double.IsFinite(worst))
            solve.Warn(FormattableString.Invariant($"The continuous adjoint crosses steps that change rho by more than a factor of 2, up to {worst:g3} at step {step}: its gradient is wrong in size there, and with Euler's method in sign. Use GradientMethod.Discrete, or a grid with smaller ratios such as TimeGrid.LogSnr with more steps."));
    }

    private sealed class Backsolve(Solve solve, ButcherTableau tableau) : Sweep
    {
        private readonly Tensor[] _y = new Tensor[solve.Plans.Length + 1];

        public override Tensor Forward()
        {
            var end = solve.Walk(solve.Start(solve.Request.Noise.detach()), solve.Evaluate, state => (_y[state.Step] = state.Y) is not null);
            _y[^1] = end.Y;
            return solve.AtEnd(end.Y);
        }

        public override Tensor Backward(Tensor gradient)
        {
            var p = solve.AtEnd(gradient);
            for (var n = _y.Length - 2; n >= 0; n--)
            {
                solve.ThrowIfCancelled();
                var before = p;
                p = IntervalBack(n, before);
                p = solve.Meet(n, _y[n], p)!;
                before.Dispose();
                _y[n + 1].Dispose();
                solve.Report(_y.Length - 1 - n);
            }

            return solve.AtStart(p);
        }

        // From the clean end of interval n to its noisy end; h is positive when sampling.
        private Tensor IntervalBack(int n, Tensor p)
        {
            using var scope = NewDisposeScope();
            var grid = solve.Request.Grid;
            var (noisy, clean) = (grid.Points[n], grid.Points[n + 1]);
            var coordinates = solve.Request.Sampler.Coordinates;
            var h = coordinates.Variable(noisy.Level) - coordinates.Variable(clean.Level);
            var stages = tableau.SolutionStages;
            var dy = new Tensor[stages];
            var dp = new Tensor[stages];
            for (var i = 0; i < stages; i++)
            {
                var at = coordinates.Between(grid, clean, noisy, tableau.C[i]);
                var factor = coordinates.Scale(at.Level);
                var (y, stage) = (_y[n + 1], p);
                for (var j = 0; j < i; j++)
                    (y, stage) = (Add(y, dy[j], h * tableau.A[i][j]), Add(stage, dp[j], h * tableau.A[i][j]));
                // The quadrature weight rides on the cotangent, so that inputs accumulate in place; a stage without weight leaves them out.
                var weight = tableau.B[i] == 0 ? 1 : -h * tableau.B[i];
                using Scalar toX = factor.ToScalar(), quadrature = weight.ToScalar(), back = (-factor / weight).ToScalar();
                var (slope, ofX) = solve.Pull(n, y.mul(toX), at, coordinates.Slope, stage.mul(quadrature), intoInputs: tableau.B[i] != 0);
                (dy[i], dp[i]) = (slope, ofX.mul(back));
            }

            for (var i = 0; i < stages; i++)
                p = Add(p, dp[i], h * tableau.B[i]);
            return p.MoveToOuterDisposeScope();
        }

        private static Tensor Add(Tensor a, Tensor b, double weight)
        {
            if (weight == 0)
                return a;
            using var scalar = weight.ToScalar();
            return a.add(b, scalar);
        }
    }
}
