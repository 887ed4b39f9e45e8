using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The discrete adjoint of a reversible sampler: states are had back by undoing steps instead of being stored.</summary>
internal sealed class Reversible() : GradientMethod("reversible")
{
    public override bool IsExact => true;

    internal override Sweep Begin(Solve solve) => solve.Request.Sampler is ReversibleSampler sampler
        ? new Undoing(solve, sampler)
        : throw new NotSupportedException($"Steps of sampler '{solve.Request.Sampler.Name}' cannot be undone. Use a ReversibleSampler, or GradientMethod.Discrete, which stores the states.");

    private sealed class Undoing(Solve solve, ReversibleSampler sampler) : Sweep
    {
        private SamplerState? _end;

        public override Tensor Forward()
        {
            _end = solve.Walk(solve.Start(solve.Request.Noise.detach()), solve.Evaluate);
            return solve.AtEnd(_end.Y);
        }

        public override Tensor Backward(Tensor gradient)
        {
            var state = _end!;
            var cotangents = new Tensor?[state.Slots.Length];
            cotangents[0] = solve.AtEnd(gradient);
            for (var n = solve.Plans.Length - 1; n >= 0; n--)
            {
                solve.ThrowIfCancelled();
                var (after, later) = (state, cotangents);
                var known = new Tensor?[solve.Plans[n].Evaluations.Length];
                state = Undo(n, after, known);
                cotangents = Transpose.Step(solve, n, state, known, later);
                cotangents[0] = solve.Meet(n, state.Y, cotangents[0]);
                Solve.Release(after);
                foreach (var used in later.Concat(known))
                    used?.Dispose();
                solve.Report(solve.Plans.Length - n);
            }

            Solve.Release(state);
            return solve.AtStart(cotangents[0] ?? zeros_like(solve.Request.Noise));
        }

        private SamplerState Undo(int n, SamplerState after, Tensor?[] known)
        {
            var plan = solve.Plans[n];
            var before = Stepping.Apply(sampler.PlanBack(solve.Request.Grid, n), after, solve.EvaluateAgain(n), (i, eps) =>
            {
                var index = ReversibleSampler.Repeats(plan, i);
                if (plan.FeedsLater(index))
                    known[index] = eps.detach().MoveToOuterDisposeScope();
            });
            return before with { Step = n };
        }
    }
}
