using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The discrete adjoint: the transpose of each step's plan, applied to stored states in reverse order.</summary>
/// <remarks>
/// Stored per step: the state, and those predicted noises that a later stage of the same step reads, so that no evaluation is repeated except with its graph.
/// The noise of a stochastic sampler is additive and drops out; only the states it produced are needed.
/// </remarks>
internal sealed class Discrete() : GradientMethod("discrete")
{
    internal override bool WalksWithoutGraph => true;

    internal override Sweep Begin(Solve solve) => new Transposed(solve);

    private sealed class Transposed(Solve solve) : Sweep
    {
        private readonly SamplerState[] _states = new SamplerState[solve.Plans.Length];
        private readonly Tensor?[][] _noises = [.. solve.Plans.Select(p => new Tensor?[p.Evaluations.Length])];

        public override Tensor Forward()
        {
            var end = solve.Walk(solve.Start(solve.Request.Noise.detach()), solve.Evaluate, state => _states[state.Step] = state, Keep);
            return solve.AtEnd(end.Y);
        }

        public override Tensor Backward(Tensor gradient)
        {
            // Only y of the end state reaches the sample; its history leads nowhere.
            var cotangents = new Tensor?[solve.Plans[^1].Next.Length];
            cotangents[0] = solve.AtEnd(gradient);
            for (var n = _states.Length - 1; n >= 0; n--)
            {
                solve.ThrowIfCancelled();
                var before = cotangents;
                cotangents = StepBack(n, before);
                foreach (var used in before)
                    used?.Dispose();
                Solve.Release(_states[n]);
                foreach (var used in _noises[n])
                    used?.Dispose();
                solve.Report(_states.Length - n);
            }

            return solve.AtStart(cotangents[0] ?? zeros_like(solve.Request.Noise));
        }

        private void Keep(int step, int evaluation, Tensor noise)
        {
            if (solve.Plans[step].FeedsLater(evaluation))
                _noises[step][evaluation] = noise.detach().MoveToOuterDisposeScope();
        }

        private Tensor?[] StepBack(int n, Tensor?[] cotangents)
        {
            using var scope = NewDisposeScope();
            var plan = solve.Plans[n];
            var work = new StepTensors(plan, _states[n]);
            _noises[n].CopyTo(work.Evaluations, 0);
            var slots = new Tensor?[_states[n].Slots.Length];
            var noises = new Tensor?[plan.Evaluations.Length];
            for (var j = 0; j < plan.Next.Length; j++)
                Spread(plan.Next[j], cotangents[j]);
            for (var i = noises.Length - 1; i >= 0; i--)
            {
                if (noises[i] is not { } cotangent)
                    continue;
                var at = plan.Evaluations[i].At;
                var (_, ofX) = solve.Pull(n, work.Input(i), at, cotangent);
                using var alpha = at.Level.Alpha.ToScalar();
                Spread(plan.Evaluations[i].Y, ofX.mul(alpha));
            }

            foreach (var slot in slots)
                slot?.MoveToOuterDisposeScope();
            return slots;

            void Spread(IEnumerable<Term> terms, Tensor? cotangent)
            {
                if (cotangent is null)
                    return;
                foreach (var term in terms.Where(t => t.Source != TermSource.Draw))
                {
                    ref var target = ref (term.Source == TermSource.Slot ? slots : noises)[term.Index];
                    using var weight = term.Weight.ToScalar();
                    target = target is null ? cotangent.mul(weight) : target.add(cotangent, weight);
                }
            }
        }
    }
}
