using AdjointDpm.Models;
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
        RefuseNoise(sampler);
        Backsolve.CheckGrid(solve, sampler.Coordinates);
        var tableau = backward ?? sampler.Backward
            ?? throw new NotSupportedException($"Sampler '{sampler.Name}' is no Runge–Kutta method, so the continuous adjoint needs one for its way back: GradientMethod.Continuous(ButcherTableau.Heun).");
        return new Stages(solve, tableau);
    }

    private sealed class Stages(Solve solve, ButcherTableau tableau) : Backsolve(solve, solve.Request.Sampler.Coordinates)
    {
        // From the clean end of interval n to its noisy end; h is positive when sampling.
        protected override Tensor IntervalBack(int n, Tensor p)
        {
            using var scope = NewDisposeScope();
            var grid = Solve.Request.Grid;
            var (noisy, clean) = (grid.Points[n], grid.Points[n + 1]);
            var h = Coordinates.Variable(noisy.Level) - Coordinates.Variable(clean.Level);
            var stages = tableau.SolutionStages;
            var dy = new Tensor[stages];
            var dp = new Tensor[stages];
            for (var i = 0; i < stages; i++)
            {
                var at = Coordinates.Between(grid, clean, noisy, tableau.C[i]);
                var factor = Coordinates.Scale(at.Level);
                var (y, stage) = (State(n + 1), p);
                for (var j = 0; j < i; j++)
                    (y, stage) = (Add(y, dy[j], h * tableau.A[i][j]), Add(stage, dp[j], h * tableau.A[i][j]));
                // The quadrature weight rides on the cotangent, so that inputs accumulate in place; a stage without weight leaves them out.
                var weight = tableau.B[i] == 0 ? 1 : -h * tableau.B[i];
                using Scalar back = (-factor / weight).ToScalar();
                var (slope, ofX) = Solve.Pull(n, y.Times(factor), at, Coordinates.Slope, stage.Times(weight), intoInputs: tableau.B[i] != 0);
                (dy[i], dp[i]) = (slope, ofX.mul(back));
            }

            for (var i = 0; i < stages; i++)
                p = Add(p, dp[i], h * tableau.B[i]);
            return p.MoveToOuterDisposeScope();
        }
    }
}
