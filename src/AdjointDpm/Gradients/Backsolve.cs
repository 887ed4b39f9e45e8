using AdjointDpm.Models;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The way back of a continuous adjoint: p = ∂L/∂y is carried from the clean to the noisy end of each interval, y reset to the state that the sampler came to.</summary>
/// <param name="solve">The solve.</param>
/// <param name="coordinates">Variables of the adjoint equation; they need not be the sampler's.</param>
internal abstract class Backsolve(Solve solve, Coordinates coordinates) : Sweep
{
    // In the sampler's own coordinates.
    private readonly Tensor[] _y = new Tensor[solve.Plans.Length + 1];

    /// <summary>The solve.</summary>
    protected Solve Solve => solve;

    /// <summary>Variables of the adjoint equation.</summary>
    protected Coordinates Coordinates => coordinates;

    public sealed override Tensor Forward()
    {
        var end = solve.Walk(solve.Start(solve.Request.Noise.detach()), solve.Evaluate, state => (_y[state.Step] = state.Y) is not null);
        _y[^1] = end.Y;
        return solve.AtEnd(end.Y);
    }

    public sealed override Tensor Backward(Tensor gradient)
    {
        var p = gradient.Times(Scale(_y.Length - 1));
        for (var n = _y.Length - 2; n >= 0; n--)
        {
            solve.ThrowIfCancelled();
            var before = p;
            p = IntervalBack(n, before);
            if (solve.IsMet(n) && solve.Requested(n) is { } point)
                p = solve.Meet(point, Scale(n), State(n), p)!;
            before.Dispose();
            _y[n + 1].Dispose();
            solve.Report(_y.Length - 1 - n);
        }

        return p.Times(1 / Scale(0));
    }

    /// <summary>Carries p over the interval from point n + 1 back to point n, by a tensor of its own; inputs accumulate.</summary>
    protected abstract Tensor IntervalBack(int n, Tensor p);

    /// <summary>y at a point of the grid, in the adjoint's coordinates.</summary>
    protected Tensor State(int n) => ReferenceEquals(coordinates, solve.Request.Sampler.Coordinates) ? _y[n] : _y[n].Times(solve.Scale(n) / Scale(n));

    /// <summary>a + weight b.</summary>
    protected static Tensor Add(Tensor a, Tensor b, double weight)
    {
        if (weight == 0)
            return a;
        using var scalar = weight.ToScalar();
        return a.add(b, scalar);
    }

    /// <summary>Throws where the adjoint equation does not exist, and warns of steps that are too coarse for it.</summary>
    /// <param name="solve">The solve.</param>
    /// <param name="coordinates">Variables of the adjoint equation.</param>
    /// <param name="drift">Weight of eps drho in the equation: 1 for the probability flow, 1 + tau² with noise.</param>
    public static void CheckGrid(Solve solve, Coordinates coordinates, double drift = 1)
    {
        var points = solve.Request.Grid.Points;
        foreach (var point in points)
        {
            if (!coordinates.IsRegular(point.Level))
                throw new NotSupportedException($"The continuous adjoint evaluates the network at every point of the grid, and its equation in {coordinates.Name} does not exist at rho = {point.Rho}. Keep the grid between the schedule's RhoMin and a finite RhoMax, sample in flow coordinates as {Sampler.FlowHeun} does with GradientMethod.Continuous, or use GradientMethod.Discrete.");
        }

        // Off the data, where eps = y / rho, a step from rho_b up to rho_a should multiply p by (rho_b / rho_a)^drift; Euler's method gives 1 + drift (1 - rho_a / rho_b).
        var most = 1 + (1 / drift);
        var (worst, step) = points.Zip(points.Skip(1), (a, b) => Math.Max(a.Rho / b.Rho, b.Rho / a.Rho)).Select((ratio, n) => (ratio, n)).MaxBy(r => double.IsFinite(r.ratio) ? r.ratio : 0);
        if (worst > most && double.IsFinite(worst))
            solve.Warn(FormattableString.Invariant($"The continuous adjoint crosses steps that change rho by more than a factor of {most:g3}, up to {worst:g3} at step {step}: its gradient is wrong in size there, and with Euler's method in sign. Use GradientMethod.Discrete, or a grid with smaller ratios such as TimeGrid.LogSnr with more steps."));
    }

    private double Scale(int n) => coordinates.Scale(solve.Request.Grid.Points[n].Level);
}
