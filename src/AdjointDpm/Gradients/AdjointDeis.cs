using AdjointDpm.Models;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>AdjointDEIS (Blasingame and Liu, NeurIPS 2024): the adjoint of the probability flow or of the diffusion's reverse, by exponential integrators in lambda.</summary>
/// <remarks>
/// <para>With p = ∂L/∂y = alpha ∂L/∂x, the paper's equations 2.8 to 2.10 and 3.3 to 3.5 all read p_s = p_t + (1 + tau²) ∫ e^-lambda V dlambda from lambda_t to lambda_s, V = alpha (∂eps/∂x)ᵀ p, and the same for inputs with (∂eps/∂input)ᵀ p and no other change: the noise does not depend on the state and drops out.</para>
/// <para>V constant is order 1, equation 2.14, with the weight rho_t - rho_s = rho_s (e^h - 1), h = lambda_s - lambda_t. A line through the two latest V is 2M, equation 2.15, with DPM-Solver's weights: the difference of both over 2 (lambda_t - lambda_r) / h is added to the latest.</para>
/// <para>Along a path of the stochastic equation V is as rough as the path, so there 2M is of order 2 only if the Jacobian does not depend on the state; the paper proves its orders for the flow.</para>
/// </remarks>
internal sealed class AdjointDeis : GradientMethod
{
    private readonly bool _multistep;

    public AdjointDeis(int order)
        : base(order == 1 ? "adjoint-deis-1" : "adjoint-deis-2m")
    {
        if (order is not (1 or 2))
            throw new ArgumentOutOfRangeException(nameof(order), order, $"AdjointDEIS has orders 1 and 2 (2M), not {order}.");
        _multistep = order == 2;
    }

    internal override Sweep Begin(Solve solve)
    {
        var sampler = solve.Request.Sampler;
        RefuseControls(solve);
        if (sampler.Tau is not { } tau)
            throw new NotSupportedException($"AdjointDEIS solves the adjoint of dy = (1 + tau²) eps drho + tau sqrt(2 rho) dw, and the noise of sampler '{sampler.Name}' follows no such equation with one tau. Use GradientMethod.Discrete, or sample with {Sampler.EulerMaruyama}, {Sampler.Ddpm} or {Sampler.StochasticDpmSolver1}.");
        var drift = 1 + (tau * tau);
        Backsolve.CheckGrid(solve, Coordinates.Rho, drift);
        if (_multistep && solve.Request.Field.DiffersByStep)
            solve.Warn("The noise predictor is told its step. AdjointDEIS-2M extrapolates over steps, so the gradient of an input that one step alone reads is of first order inside the grid and wrong by half at both ends. Use GradientMethod.AdjointDeis(1) or GradientMethod.Discrete for such inputs.");
        return new Exponential(solve, drift, _multistep);
    }

    private sealed class Exponential(Solve solve, double drift, bool multistep) : Backsolve(solve, Coordinates.Rho)
    {
        private Tensor? _older;

        protected override Tensor IntervalBack(int n, Tensor p)
        {
            using var scope = NewDisposeScope();
            var clean = Solve.Request.Grid.Points[n + 1];
            var (own, older) = Weights(n);
            // Inputs accumulate in place: what the next interval reads of this evaluation rides on the same cotangent.
            var weight = own + (n > 0 ? Weights(n - 1).Older : 0);
            var alpha = clean.Level.Alpha;
            var (_, ofX) = Solve.Pull(n, State(n + 1).Times(alpha), clean, Prediction.Epsilon, p.Times(weight == 0 ? 1 : weight), intoInputs: weight != 0);
            var v = ofX.Times(alpha / (weight == 0 ? 1 : weight));
            var result = Add(p, v, own);
            if (_older is not null)
            {
                result = Add(result, _older, older);
                _older.Dispose();
            }

            _older = multistep ? v.MoveToOuterDisposeScope() : null;
            return result.MoveToOuterDisposeScope();
        }

        // Of V at the clean end t of interval n, which goes back to s, and at the point r before t on the way back.
        private (double Own, double Older) Weights(int n)
        {
            var points = Solve.Request.Grid.Points;
            var (s, t) = (points[n], points[n + 1]);
            var whole = drift * (t.Rho - s.Rho);
            if (!multistep || n + 2 >= points.Count)
                return (whole, 0);
            var difference = whole / (2 * (t.Level.Lambda - points[n + 2].Level.Lambda) / (s.Level.Lambda - t.Level.Lambda));
            return (whole + difference, -difference);
        }
    }
}
