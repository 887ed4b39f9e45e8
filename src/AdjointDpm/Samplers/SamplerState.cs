using System.Collections.Immutable;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Samplers;

/// <summary>Everything that the next step of a sampler depends on. A value: stepping makes a new one.</summary>
/// <param name="Step">Index of the next step.</param>
/// <param name="Slots">Slot 0 is y, x over the scale of the sampler's coordinates; further slots are the sampler's history. Not owned.</param>
/// <param name="Key">Names the draws of a stochastic sampler.</param>
/// <param name="FirstSample">Index within the shard of the batch's first sample.</param>
internal sealed record SamplerState(int Step, ImmutableArray<Tensor> Slots, NoiseKey Key, uint FirstSample)
{
    /// <summary>The state itself.</summary>
    public Tensor Y => Slots[0];
}

/// <summary>The one pure step that sampling and every gradient method share.</summary>
internal static class Stepping
{
    /// <summary>Called with each evaluation: index, input x, point, what is wanted; returns the prediction.</summary>
    public delegate Tensor Evaluator(int index, Tensor x, GridPoint at, Prediction wanted);

    /// <summary>Applies a plan to a state.</summary>
    /// <param name="plan">Numbers of the step.</param>
    /// <param name="state">State before the step.</param>
    /// <param name="evaluate">Evaluates the network.</param>
    /// <param name="keep">Called with each evaluation's prediction, still in the step's dispose scope.</param>
    /// <returns>State after the step; its tensors are in the dispose scope around the call and share no storage with a work buffer.</returns>
    public static SamplerState Apply(StepPlan plan, SamplerState state, Evaluator evaluate, Action<int, Tensor>? keep = null)
    {
        using var scope = NewDisposeScope();
        var work = new StepTensors(plan, state);
        for (var i = 0; i < plan.Evaluations.Length; i++)
        {
            work.Evaluations[i] = evaluate(i, work.Input(i), plan.Evaluations[i].At, plan.Evaluations[i].As);
            keep?.Invoke(i, work.Evaluations[i]!);
        }

        return state with { Step = state.Step + 1, Slots = [.. plan.Next.Select(terms => work.Combine(terms).MoveToOuterDisposeScope())] };
    }
}

/// <summary>Tensors that the combinations of one step refer to.</summary>
internal sealed class StepTensors(StepPlan plan, SamplerState state)
{
    private readonly Tensor?[] _draws = new Tensor?[plan.Draws];

    /// <summary>Predictions known so far.</summary>
    public Tensor?[] Evaluations { get; } = new Tensor?[plan.Evaluations.Length];

    /// <summary>Network input of an evaluation.</summary>
    public Tensor Input(int index)
    {
        var evaluation = plan.Evaluations[index];
        return SumOf(evaluation.Y).Times(evaluation.Scale);
    }

    /// <summary>A linear combination, as a new tensor handle.</summary>
    public Tensor Combine(ImmutableArray<Term> terms) => SumOf(terms).Take();

    private Sum SumOf(ImmutableArray<Term> terms)
    {
        var sum = default(Sum);
        foreach (var term in terms)
            sum.Add(Resolve(term), term.Weight);
        return sum;
    }

    private Tensor Resolve(Term term) => term.Source switch
    {
        TermSource.Slot => state.Slots[term.Index],
        TermSource.Evaluation => Evaluations[term.Index] ?? throw new InvalidOperationException($"Step {state.Step} needs evaluation {term.Index}, which was not kept."),
        _ => _draws[term.Index] ??= Draw(term.Index),
    };

    // Number 0 is the initial noise; a step never needs more than four draws.
    private Tensor Draw(int index)
        => CounterNoise.Normal(state.Key with { Draw = checked((ushort)(1 + (4 * state.Step) + index)) }, state.Y.shape, state.Y.dtype, state.Y.device, state.FirstSample);
}
