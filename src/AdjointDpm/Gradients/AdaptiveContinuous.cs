using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The continuous adjoint with step control on its way back: state and adjoint are solved together over each interval of the requested grid, and the inputs' gradients are quadratures beside them.</summary>
/// <remarks>
/// dy/drho = eps, dp/drho = -alpha (∂eps/∂x)ᵀ p, dinput/drho = -(∂eps/∂input)ᵀ p, as in torchdiffeq's odeint_adjoint for an adaptive solver.
/// Quadratures are accumulated stage by stage and taken over when a step is accepted, so that they cost a few copies of the inputs and not one a stage.
/// </remarks>
internal sealed class AdaptiveContinuous(StepControl control, ButcherTableau tableau, bool seminorm) : GradientMethod($"continuous({tableau.Name}, adaptive)")
{
    internal override bool WalksWithoutGraph => true;

    internal override Sweep Begin(Solve solve)
    {
        var sampler = solve.Request.Sampler;
        RefuseControls(solve);
        RefuseNoise(sampler);
        foreach (var point in solve.RequestedGrid.Points)
        {
            if (!Coordinates.Rho.IsRegular(point.Level))
                throw new NotSupportedException($"The continuous adjoint is solved back from the grid's end to its start, and its equation does not exist at rho = {point.Rho}. Keep the grid between the schedule's RhoMin and a finite RhoMax, or use GradientMethod.Discrete.");
        }

        return new Backsolve(solve, new(tableau, control, seminorm));
    }

    /// <summary>How the way back is solved.</summary>
    private sealed record Manner(ButcherTableau Tableau, StepControl Control, bool Seminorm);

    private sealed class Backsolve(Solve solve, Manner manner) : Sweep
    {
        // States at the requested points only: between them y is solved back.
        private readonly Tensor[] _y = new Tensor[solve.RequestedGrid.Points.Count];

        public override Tensor Forward()
        {
            var next = 0;
            var end = solve.Walk(solve.Start(solve.Request.Noise.detach()), solve.Evaluate, state =>
            {
                var kept = solve.Request.Grid.Points[state.Step] == solve.RequestedGrid.Points[next];
                if (kept)
                    _y[next++] = state.Y;
                return kept;
            });
            _y[^1] = end.Y;
            return solve.AtEnd(end.Y);
        }

        public override Tensor Backward(Tensor gradient)
        {
            var grid = solve.RequestedGrid;
            var coordinates = solve.Request.Sampler.Coordinates;
            var variable = solve.Request.Sampler is AcceptedSteps { Variable: var same } ? same : IntegrationVariable.LogRho;
            using var space = new AdjointSpace(solve.Leaves!.Inputs, manner.Seminorm);
            using Scalar toRho = grid.End.Level.Alpha.ToScalar(), toNoise = (1 / grid.Start.Level.Alpha).ToScalar();
            var p = gradient.mul(toRho);
            var n = 0;
            Interval interval = null!;
            var solver = new AdaptiveSolver<AdjointState>(manner.Tableau, manner.Control, space, (s, state) =>
            {
                using var scope = NewDisposeScope();
                var (at, factor) = interval.At(s);
                using Scalar alpha = at.Level.Alpha.ToScalar(), back = (-at.Level.Alpha).ToScalar();
                var (eps, ofX) = solve.Pull(n, state.Y.mul(alpha), at, Prediction.Epsilon, state.P);
                return (new(eps.MoveToOuterDisposeScope(), ofX.mul(back).MoveToOuterDisposeScope(), space.TakeGradients()), factor);
            });
            for (n = grid.Steps - 1; n >= 0; n--)
            {
                // y is the sampler's own again at every requested point; the slope there is not the one solved back.
                solver.Restart();
                interval = new(grid.Schedule, grid.Points[n + 1], grid.Points[n], variable);
                var start = new AdjointState(InRho(n + 1, coordinates), p, null);
                var end = solver.Advance(start, interval.From, interval.To, attempting: solve.ThrowIfCancelled);
                start.Dispose();
                end.Y.Dispose();
                using var reached = InRho(n, coordinates);
                p = solve.Meet(n, grid.Points[n].Level.Alpha, reached, end.P)!;
                solve.Report(grid.Steps - n);
            }

            solver.Restart();
            solve.CountBackward(solver.Accepted, solver.Rejected);
            return p.mul(toNoise);
        }

        private Tensor InRho(int n, Coordinates coordinates)
        {
            var level = solve.RequestedGrid.Points[n].Level;
            using var ratio = (coordinates.Scale(level) / level.Alpha).ToScalar();
            return _y[n].mul(ratio);
        }
    }
}
