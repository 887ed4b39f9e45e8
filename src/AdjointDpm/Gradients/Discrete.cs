using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The discrete adjoint: the transpose of each step's plan, applied to stored or restored states in reverse order.</summary>
/// <remarks>
/// Stored per step, on the device or in main memory: the state, and those predicted noises that a later stage of the same step reads, so that no evaluation is repeated except with its graph.
/// The noise of a stochastic sampler is additive and drops out; only the states it produced are needed.
/// </remarks>
internal sealed class Discrete : GradientMethod
{
    private readonly int? _slots, _last;
    private readonly bool _offloads;

    /// <summary>The discrete adjoint over all or the last steps, with all or some of their states stored.</summary>
    /// <param name="name">Name of the method.</param>
    /// <param name="slots">Most states stored at once beside the one in use; null stores every state.</param>
    /// <param name="last">Number of steps to differentiate; null for all.</param>
    /// <param name="offloads">Whether stored states lie in main memory.</param>
    public Discrete(string name, int? slots = null, int? last = null, bool offloads = false)
        : base(name)
    {
        if (slots < 1 || last < 1)
            throw new ArgumentOutOfRangeException(slots < 1 ? nameof(slots) : nameof(last), slots ?? last, $"{name}: the number must be at least 1.");
        (_slots, _last, _offloads) = (slots, last, offloads);
    }

    public override bool IsExact => _last is null;

    // What is for memory does not keep an adaptive sampler's evaluations.
    internal override bool WalksWithoutGraph => _slots is null && !_offloads;

    internal override Sweep Begin(Solve solve)
    {
        var first = Math.Max(0, solve.Plans.Length - (_last ?? solve.Plans.Length));
        if (solve.Objective!.OnStates.Keys.FirstOrDefault(first) < first)
            throw new NotSupportedException($"The objective has a loss at grid point {solve.Objective.OnStates.Keys.First()}, where method '{Name}' holds the state constant: it differentiates from point {first} on. Use GradientMethod.Discrete.");
        return new Transposed(solve, first, _slots ?? int.MaxValue, _offloads);
    }

    /// <param name="solve">The solve.</param>
    /// <param name="first">First step to differentiate through.</param>
    /// <param name="slots">Most states stored at once beside the one in use.</param>
    /// <param name="offloads">Whether stored states lie in main memory.</param>
    private sealed class Transposed(Solve solve, int first, int slots, bool offloads) : Sweep
    {
        private readonly SamplerState?[] _states = new SamplerState?[solve.Plans.Length];
        private readonly Tensor?[][] _noises = [.. solve.Plans.Select(p => new Tensor?[p.Evaluations.Length])];
        private int _free, _next;

        public override Tensor Forward()
        {
            (_free, _next) = (slots, first);
            var end = solve.Walk(solve.Start(solve.Request.Noise.detach()), solve.Evaluate, state => Keep(state, solve.Plans.Length - 1), Store);
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
                else if (offloads)
                    BringBack(n);
                var before = cotangents;
                cotangents = Transpose.Step(solve, n, _states[n]!, _noises[n], before);
                cotangents[0] = solve.Meet(n, _states[n]!.Y, cotangents[0]);
                foreach (var used in before.Concat(_noises[n]))
                    used?.Dispose();
                Solve.Release(_states[n]!);
                _states[n] = null;
                // The slots not taken by the states that are left.
                _free = slots - _states.Count(s => s is not null);
                solve.Report(_states.Length - n);
            }

            return first > 0 || cotangents[0] is null ? zeros_like(solve.Request.Noise) : solve.AtStart(cotangents[0]!);
        }

        // On the way to the state of step last, which is always kept: it is used at once. The others take slots.
        private bool Keep(SamplerState state, int last)
        {
            var n = state.Step;
            if (n < first || (n < last && n != _next))
                return false;
            // The last one is used at once.
            var stays = n == last || !offloads;
            _states[n] = stays ? state : state with { Slots = [.. state.Slots.Select(ToHost)] };
            if (n < last)
            {
                _next = n + CheckpointSchedule.Next(last + 1 - n, _free);
                _free--;
            }

            return stays;
        }

        // A copy on the CPU as well, where nothing is spared: so that the way of the numbers is the same everywhere.
        private Tensor ToHost(Tensor tensor)
        {
            solve.CountOffloaded();
            return tensor.to(CPU, copy: true);
        }

        private void BringBack(int n)
        {
            var device = solve.Request.Noise.device;
            if (n < _states.Length - 1)
            {
                var there = _states[n]!;
                _states[n] = there with { Slots = [.. there.Slots.Select(slot => slot.to(device, copy: true))] };
                Solve.Release(there);
            }

            for (var i = 0; i < _noises[n].Length; i++)
            {
                if (_noises[n][i] is not { } noise)
                    continue;
                _noises[n][i] = noise.to(device, copy: true);
                noise.Dispose();
            }
        }

        private void Store(int step, int evaluation, Tensor noise)
        {
            if (_states[step] is not null && _noises[step][evaluation] is null && solve.Plans[step].FeedsLater(evaluation))
                _noises[step][evaluation] = (offloads ? ToHost(noise.detach()) : noise.detach()).MoveToOuterDisposeScope();
        }

        // Walks from the stored state before n up to n again, and makes those evaluations of step n that later ones of it read.
        private void Restore(int n)
        {
            var from = n - 1;
            while (_states[from] is null)
                from--;
            _next = from + CheckpointSchedule.Next(n + 1 - from, _free + 1);
            _states[n] = solve.Walk(_states[from]!, solve.EvaluateAgain, state => state.Step == from || Keep(state, n), Store, until: n);
            using var scope = NewDisposeScope();
            var work = new StepTensors(solve.Plans[n], _states[n]!);
            for (var i = 0; i < _noises[n].Length; i++)
            {
                if (!solve.Plans[n].FeedsLater(i))
                    continue;
                var evaluation = solve.Plans[n].Evaluations[i];
                work.Evaluations[i] = solve.EvaluateAgain(n)(i, work.Input(i), evaluation.At, evaluation.As);
                Store(n, i, work.Evaluations[i]!);
            }
        }
    }
}
