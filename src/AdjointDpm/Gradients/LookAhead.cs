using AdjointDpm.Models;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>One guided sampling under way.</summary>
internal sealed class LookAhead(SampleRequest request, LookAheadGuidance guidance, bool guarded, CancellationToken cancellation)
{
    private readonly SampleRequest _constant = request with { Field = request.Field.Held(), Sampler = Sampler.Ddim, Progress = null };
    private int _forwardNfe, _backwardNfe, _vjps, _recomputed;
    private ushort _travels;

    /// <summary>x_0 and what it cost, in the current dispose scope.</summary>
    public (Tensor Sample, SolveStatistics Statistics) Run()
    {
        using var solve = new Solve(request, guarded, cancellation);
        var state = solve.Start(request.Noise.detach());
        for (var n = 0; n < request.Grid.Steps; n++)
            state = guidance.Guides(n) ? Guided(solve, state) : solve.Walk(state, solve.Evaluate, until: n + 1);
        var walk = solve.Statistics();
        return (solve.AtEnd(state.Y), walk with
        {
            ForwardNfe = walk.ForwardNfe + _forwardNfe,
            BackwardNfe = _backwardNfe,
            Vjps = _vjps,
            Recomputed = _recomputed,
        });
    }

    private SamplerState Guided(Solve solve, SamplerState state)
    {
        var n = state.Step;
        for (var repeat = 0; ; repeat++)
        {
            using var scope = NewDisposeScope();
            var gradient = Gradient(state.Y.Times(solve.Scale(n)), n);
            var next = solve.Walk(state, solve.Evaluate, _ => true, until: n + 1);
            var reached = next.Y.Times(solve.Scale(n + 1));
            var moved = reached.sub(gradient.Times(guidance.Strength * (guidance.Normalise ? Taken(n) : Taken(n) * Taken(n) / 2)));
            if (repeat == guidance.Repeats)
            {
                Solve.Release(state);
                var slots = next.Slots.SetItem(0, moved.Times(1 / solve.Scale(n + 1)));
                return next with { Slots = [.. slots.Select(slot => slot.MoveToOuterDisposeScope())] };
            }

            var again = Back(solve, moved, n).MoveToOuterDisposeScope();
            state.Y.Dispose();
            state = state with { Slots = state.Slots.SetItem(0, again) };
        }
    }

    // ∂L/∂x of the look-ahead from x.
    private Tensor Gradient(Tensor x, int n)
    {
        using var scope = NewDisposeScope();
        var points = request.Grid.Points;
        var ahead = Math.Min(guidance.Ahead, request.Grid.Steps - n);
        var visited = Enumerable.Range(0, ahead + 1).Select(i => points[n + (int)Math.Round((double)i * (request.Grid.Steps - n) / ahead)]);
        using var solved = Sampling.Differentiate(_constant with { Noise = x, Grid = new(request.Grid.Schedule, [.. visited]) }, guidance.Loss, guidance.Gradient, cancellation);
        (_forwardNfe, _backwardNfe) = (_forwardNfe + solved.Statistics.ForwardNfe, _backwardNfe + solved.Statistics.BackwardNfe);
        (_vjps, _recomputed) = (_vjps + solved.Statistics.Vjps, _recomputed + solved.Statistics.Recomputed);
        if (!guidance.Normalise)
            return solved.Noise.clone().MoveToOuterDisposeScope();
        var length = Rms(solved.Noise);
        // A sample whose loss is flat stays where it is.
        return solved.Noise.div(length.masked_fill(length.eq(Rooted.Zero), Rooted.One)).MoveToOuterDisposeScope();
    }

    // Up the forward process by one step of the grid.
    private Tensor Back(Solve solve, Tensor x, int n)
    {
        var (to, from) = (request.Grid.Points[n].Level, request.Grid.Points[n + 1].Level);
        var noise = CounterNoise.Normal(request.Key with { Draw = (ushort)(ushort.MaxValue - 1 - _travels++) }, x.shape, x.dtype, x.device, request.FirstSample);
        var up = x.Times(to.Alpha / from.Alpha);
        return up.Plus(noise.Times(Taken(n))).Times(1 / solve.Scale(n));
    }

    // Deviation of the noise, at the level before it, that a step takes away.
    private double Taken(int n)
    {
        var (before, after) = (request.Grid.Points[n].Level, request.Grid.Points[n + 1].Level);
        return Math.Sqrt(Math.Max(0, (before.Sigma * before.Sigma) - Math.Pow(before.Alpha / after.Alpha * after.Sigma, 2)));
    }

    // Over all but the samples' axis, which is kept.
    private static Tensor Rms(Tensor x) => x.mul(x).mean([.. Enumerable.Range(1, (int)x.dim() - 1).Select(axis => (long)axis)], keepdim: true).sqrt();
}
