using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The continuous adjoint in rho: dp/drho = -alpha (∂eps/∂x)ᵀ p with dy/drho = eps, solved from the sample back to the noise over each interval.</summary>
/// <remarks>Pan et al. (2024), equation 10, as their code runs it: y is reset to the stored state at the clean end of every interval, and the inputs' gradients are plain quadratures of -(∂eps/∂input)ᵀ p, never part of the state.</remarks>
internal sealed class Continuous(ButcherTableau? backward) : GradientMethod(backward is null ? "continuous" : $"continuous({backward.Name})")
{
    internal override Sweep Begin(Solve solve)
    {
        var sampler = solve.Request.Sampler;
        if (sampler.IsStochastic)
            throw new NotSupportedException($"The continuous adjoint solves an ordinary differential equation, and sampler '{sampler.Name}' is stochastic. Use GradientMethod.Discrete.");
        if (solve.Request.Grid.End.Rho == 0)
            throw new NotSupportedException("The continuous adjoint evaluates the network at the grid's end, and rho = 0 has no noise to predict. End the grid at the schedule's RhoMin, or use GradientMethod.Discrete.");
        var tableau = backward ?? sampler.Backward
            ?? throw new NotSupportedException($"Sampler '{sampler.Name}' is no Runge–Kutta method, so the continuous adjoint needs one for its way back: GradientMethod.Continuous(ButcherTableau.Heun).");
        return new Backsolve(solve, tableau);
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
            var h = noisy.Rho - clean.Rho;
            var stages = tableau.B.Length;
            var dy = new Tensor[stages];
            var dp = new Tensor[stages];
            for (var i = 0; i < stages; i++)
            {
                var at = tableau.C[i] == 0 ? clean : tableau.C[i] == 1 ? noisy : grid.Schedule.PointAt(clean.Rho + (tableau.C[i] * h));
                var (y, stage) = (_y[n + 1], p);
                for (var j = 0; j < i; j++)
                    (y, stage) = (Add(y, dy[j], h * tableau.A[i][j]), Add(stage, dp[j], h * tableau.A[i][j]));
                using var alpha = at.Level.Alpha.ToScalar();
                // The quadrature weight rides on the cotangent, so that inputs accumulate in place; a stage without weight leaves them out.
                var weight = tableau.B[i] == 0 ? 1 : -h * tableau.B[i];
                using Scalar scale = weight.ToScalar(), back = (-at.Level.Alpha / weight).ToScalar();
                var (eps, ofX) = solve.Pull(n, y.mul(alpha), at, stage.mul(scale), intoInputs: tableau.B[i] != 0);
                (dy[i], dp[i]) = (eps, ofX.mul(back));
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
