using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

internal sealed partial class Solve
{
    private Tensor?[][]? _known;
    private int _rejected, _backwardSteps, _backwardRejected;

    /// <summary>The grid that was asked for; an adaptive sampler's accepted one is in <see cref="Request"/> after the search.</summary>
    public TimeGrid RequestedGrid { get; }

    /// <summary>Finds an adaptive sampler's steps; from then on <see cref="Plans"/> and <see cref="Request"/> hold those accepted. Does nothing for other samplers.</summary>
    /// <param name="remember">Whether to keep the evaluations of accepted steps, so that walking them again calls the network no more.</param>
    /// <returns>y at the end of the grid, in the dispose scope around the call; null if the sampler is not adaptive.</returns>
    public Tensor? Search(bool remember)
    {
        if (Request.Sampler is not AdaptiveSampler sampler)
            return null;
        var grid = RequestedGrid;
        if (!Enumerable.Range(0, grid.Steps).Any(n => grid.Points[n].Rho > 0 && grid.Points[n + 1].Rho > 0))
            throw new ArgumentException("An adaptive sampler reaches rho = 0 by one step of Euler's method from the grid's point before, and this grid has none but its start. Give it the schedule's RhoMin as an end or as a point before 0.");
        using var scope = NewDisposeScope();
        var steps = new List<StepPlan>();
        var points = new List<GridPoint> { grid.Start };
        var known = new List<Tensor?[]>();
        Interval interval = null!;
        var intervalsLeft = grid.Steps;
        var solver = new AdaptiveSolver<Tensor>(sampler.Tableau, sampler.Control, new TensorSpace(), Slope);
        var y = Start(Request.Noise.detach()).Y;
        for (var n = 0; n < grid.Steps; n++)
        {
            intervalsLeft--;
            var before = y;
            var (from, to) = (grid.Points[n], grid.Points[n + 1]);
            if (!sampler.Coordinates.IsRegular(from.Level) || !sampler.Coordinates.IsRegular(to.Level))
            {
                solver.Restart();
                y = EulerStep(n, y);
            }
            else
            {
                interval = new(grid.Schedule, from, to, sampler.Variable);
                y = solver.Advance(y, interval.From, interval.To, Accept, ThrowIfCancelled);
            }

            before.Dispose();
        }

        solver.Restart();
        Request = Request with { Grid = new(grid.Schedule, [.. points]), Sampler = new AcceptedSteps(sampler, steps) };
        Plans = [.. steps];
        _rejected = solver.Rejected;
        _known = remember ? [.. known] : null;
        return y.MoveToOuterDisposeScope();

        (Tensor, double) Slope(double s, Tensor state)
        {
            using var inner = NewDisposeScope();
            var (at, factor) = interval.At(s);
            var x = default(Sum);
            x.Add(state, 1);
            var eps = Evaluate(steps.Count)(0, x.Times(at.Level.Alpha), at, Prediction.Epsilon);
            return (eps.detach().MoveToOuterDisposeScope(), factor);
        }

        bool Accept(double from, double to, ReadOnlySpan<Tensor> slopes)
        {
            steps.Add(sampler.Plan(interval, from, to));
            points.Add(interval.At(to).Point);
            Memory.Look();
            // How many are left is a guess until the end.
            var left = (int)Math.Ceiling(Math.Min(Math.Abs(interval.To - to) / solver.NextStep, 1e6));
            Request.Progress?.Report(new(_phase, steps.Count, steps.Count + left + intervalsLeft));
            if (!remember)
                return false;
            known.Add([.. slopes[..sampler.Tableau.SolutionStages]]);
            // They outlive the search: the walk that reads them frees them.
            foreach (var slope in known[^1])
                slope!.MoveToOuterDisposeScope();
            return true;
        }

        Tensor EulerStep(int n, Tensor state)
        {
            var plan = new RungeKutta("euler", ButcherTableau.Euler).Plan(grid, n);
            Tensor?[] kept = [null];
            var next = Stepping.Apply(plan, new(steps.Count, [state], Request.Key, Request.FirstSample), Evaluate(steps.Count), (_, eps) => kept[0] = remember ? eps.detach().MoveToOuterDisposeScope().MoveToOuterDisposeScope() : null);
            known.Add(kept);
            steps.Add(plan);
            points.Add(grid.Points[n + 1]);
            return next.Y;
        }
    }

    /// <summary>Before a gradient: finds an adaptive sampler's steps, which are then walked again. Evaluations that cannot be used again count as recomputed.</summary>
    public bool FindSteps(bool remember)
    {
        using var y = Search(remember);
        if (y is not null && !remember)
            (_recomputed, _forwardNfe) = (_recomputed + _forwardNfe, 0);
        return y is not null;
    }

    /// <summary>Counts the steps of an adaptive backward solve.</summary>
    public void CountBackward(int accepted, int rejected) => (_backwardSteps, _backwardRejected) = (accepted, rejected);

    // The evaluation made when the step was found, or null.
    private Tensor? Known(int step, int evaluation)
    {
        if (_known?[step][evaluation] is not { } found)
            return null;
        _known[step][evaluation] = null;
        var eps = found.detach();
        found.Dispose();
        return eps;
    }
}
