using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Gradients;

/// <summary>The reverse sweep over one step: the transpose of its plan.</summary>
internal static class Transpose
{
    /// <summary>Carries cotangents from after a step to before it; declared inputs accumulate theirs.</summary>
    /// <param name="solve">Solve under way; counts and evaluates.</param>
    /// <param name="n">The step.</param>
    /// <param name="state">State before the step.</param>
    /// <param name="known">Predicted noises of the step, at least those that a later evaluation of it reads.</param>
    /// <param name="cotangents">Cotangents of the slots after the step; null for none.</param>
    /// <returns>Cotangents of the slots before the step, in the dispose scope around the call.</returns>
    public static Tensor?[] Step(Solve solve, int n, SamplerState state, Tensor?[] known, Tensor?[] cotangents)
    {
        using var scope = NewDisposeScope();
        var plan = solve.Plans[n];
        var work = new StepTensors(plan, state);
        known.CopyTo(work.Evaluations, 0);
        var slots = new Tensor?[state.Slots.Length];
        var noises = new Tensor?[plan.Evaluations.Length];
        for (var j = 0; j < plan.Next.Length; j++)
            Spread(plan.Next[j], cotangents[j]);
        for (var i = noises.Length - 1; i >= 0; i--)
        {
            if (noises[i] is not { } cotangent)
                continue;
            var evaluation = plan.Evaluations[i];
            var (_, ofX) = solve.Pull(n, work.Input(i), evaluation.At, evaluation.As, cotangent);
            using var scale = evaluation.Scale.ToScalar();
            Spread(evaluation.Y, ofX.mul(scale));
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
                target = target is null ? cotangent.mul(weight) : target.add_(cotangent, weight);
            }
        }
    }
}
