using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The discrete adjoint: the transpose of each step's plan, applied to stored or restored states in reverse order.</summary>
/// <remarks>
/// Stored per step: the state, and those predicted noises that a later stage of the same step reads, so that no evaluation is repeated except with its graph.
/// The noise of a stochastic sampler is additive and drops out; only the states it produced are needed.
/// </remarks>
internal sealed class Discrete : GradientMethod
{
    private readonly int? _slots, _last;

    /// <summary>The discrete adjoint over all or the last steps, with all or some of their states stored.</summary>
    /// <param name="name">Name of the method.</param>
    /// <param name="slots">Number of stretches between checkpoints; null stores every state.</param>
    /// <param name="last">Number of steps to differentiate; null for all.</param>
    public Discrete(string name, int? slots = null, int? last = null)
        : base(name)
    {
        if (slots < 1 || last < 1)
            throw new ArgumentOutOfRangeException(slots < 1 ? nameof(slots) : nameof(last), slots ?? last, $"{name}: the number must be at least 1.");
        (_slots, _last) = (slots, last);
    }

    // Checkpoints are for memory: they do not keep an adaptive sampler's evaluations.
    internal override bool WalksWithoutGraph => _slots is null;

    internal override Sweep Begin(Solve solve)
    {
        var first = Math.Max(0, solve.Plans.Length - (_last ?? solve.Plans.Length));
        var differentiated = solve.Plans.Length - first;
        // As many slots as steps: one stretch that is never walked again.
        return new Transposed(solve, first, _slots is { } slots && slots < differentiated ? (differentiated + slots - 1) / slots : differentiated);
    }

    /// <param name="solve">The solve.</param>
    /// <param name="first">First step to differentiate through.</param>
    /// <param name="stretch">Steps from one checkpoint to the next; states between are stored for one stretch at a time.</param>
    private sealed class Transposed(Solve solve, int first, int stretch) : Sweep
    {
        private readonly SamplerState?[] _states = new SamplerState?[solve.Plans.Length];
        private readonly Tensor?[][] _noises = [.. solve.Plans.Select(p => new Tensor?[p.Evaluations.Length])];

        private int LastCheckpoint => first + ((solve.Plans.Length - 1 - first) / stretch * stretch);

        public override Tensor Forward()
        {
            var end = solve.Walk(solve.Start(solve.Request.Noise.detach()), solve.Evaluate, KeepState, KeepNoise);
            return solve.AtEnd(end.Y);
        }

        public override Tensor Backward(Tensor gradient)
        {
            // Only y of the end state reaches the sample; its history leads nowhere.
            var cotangents = new Tensor?[solve.Plans[^1].Next.Length];
            cotangents[0] = solve.AtEnd(gradient);
            for (var n = _states.Length - 1; n >= first; n--)
            {
                solve.ThrowIfCancelled();
                if (_states[n] is null)
                    Restore(n);
                var before = cotangents;
                cotangents = Transpose.Step(solve, n, _states[n]!, _noises[n], before);
                foreach (var used in before.Concat(_noises[n]))
                    used?.Dispose();
                Solve.Release(_states[n]!);
                solve.Report(_states.Length - n);
            }

            return first > 0 || cotangents[0] is null ? zeros_like(solve.Request.Noise) : solve.AtStart(cotangents[0]!);
        }

        // Checkpoints, and every state after the last one: that stretch comes first on the way back.
        private bool KeepState(SamplerState state)
        {
            var n = state.Step;
            var kept = n >= first && ((n - first) % stretch == 0 || n >= LastCheckpoint);
            if (kept)
                _states[n] = state;
            return kept;
        }

        private void KeepNoise(int step, int evaluation, Tensor noise)
        {
            if (step >= LastCheckpoint)
                Store(step, evaluation, noise);
        }

        private void Store(int step, int evaluation, Tensor noise)
        {
            if (solve.Plans[step].FeedsLater(evaluation))
                _noises[step][evaluation] = noise.detach().MoveToOuterDisposeScope();
        }

        // Walks from the checkpoint before n up to n again; a step's inner noises are wanted too, so n itself is walked if it has any.
        private void Restore(int n)
        {
            var checkpoint = first + ((n - first) / stretch * stretch);
            var inner = Enumerable.Range(0, _noises[n].Length).Any(solve.Plans[n].FeedsLater);
            var end = solve.Walk(_states[checkpoint]!, solve.EvaluateAgain, state => (_states[state.Step] = state) is not null, Store, until: inner ? n + 1 : n);
            if (inner)
                Solve.Release(end);
            else
                _states[n] = end;
        }
    }
}
