using System.Collections.Immutable;
using AdjointDpm.Schedules;

namespace AdjointDpm.Samplers;

/// <summary>What a term of a linear combination refers to.</summary>
public enum TermSource
{
    /// <summary>A slot of the state at the start of the step: slot 0 is y, x over the scale of the sampler's coordinates; further slots are history.</summary>
    Slot,

    /// <summary>The prediction of an earlier evaluation of the same step.</summary>
    Evaluation,

    /// <summary>A standard normal draw of this step.</summary>
    Draw,
}

/// <summary>One term of a linear combination: weight times a tensor of the step.</summary>
/// <param name="Source">Kind of tensor.</param>
/// <param name="Index">Which one of that kind, from 0.</param>
/// <param name="Weight">Coefficient, dimensionless or in units of rho.</param>
public readonly record struct Term(TermSource Source, int Index, double Weight)
{
    /// <summary>A slot of the state.</summary>
    public static Term Slot(int index, double weight = 1) => new(TermSource.Slot, index, weight);

    /// <summary>Prediction of an evaluation of this step.</summary>
    public static Term Evaluation(int index, double weight = 1) => new(TermSource.Evaluation, index, weight);

    /// <summary>A standard normal draw of this step.</summary>
    public static Term Draw(int index, double weight = 1) => new(TermSource.Draw, index, weight);
}

/// <summary>One evaluation of the network at x = scale y, with y a linear combination.</summary>
/// <param name="At">Time and noise level.</param>
/// <param name="Y">y of the evaluation, from slots, earlier evaluations and draws.</param>
public sealed record Evaluation(GridPoint At, ImmutableArray<Term> Y)
{
    /// <summary>x / y. Default: that of <see cref="Coordinates.Rho"/>, alpha.</summary>
    public double Scale { get; init; } = Coordinates.Rho.Scale(At.Level);

    /// <summary>What the evaluation stands for in later combinations. Default: the noise eps.</summary>
    public Prediction As { get; init; } = Prediction.Epsilon;
}

/// <summary>One step of a sampler, written out as numbers: which evaluations, and how they and the old state combine into the new one.</summary>
/// <remarks>
/// Every diffusion sampler in use is linear in states, predicted noises and draws once times and coefficients are fixed.
/// Written so, a step is a pure function of its state, the reverse sweep is its transpose, and each gradient method serves each sampler.
/// </remarks>
public sealed class StepPlan
{
    /// <summary>A plan; terms of weight zero are dropped.</summary>
    /// <param name="evaluations">Network evaluations in order; one may use only those before it.</param>
    /// <param name="next">The new state's slots, slot 0 being y. Their number may differ from the old state's.</param>
    /// <exception cref="ArgumentException">A combination is empty or refers to an evaluation that is not made before it.</exception>
    public StepPlan(IEnumerable<Evaluation> evaluations, params IEnumerable<IEnumerable<Term>> next)
    {
        Evaluations = [.. evaluations.Select((e, i) => e with { Y = Clean(e.Y, i) })];
        Next = [.. next.Select(terms => Clean(terms, Evaluations.Length))];
        if (Next.IsEmpty)
            throw new ArgumentException("A step needs a next state: at least slot 0, y.", nameof(next));
        Draws = 1 + Evaluations.SelectMany(e => e.Y).Concat(Next.SelectMany(t => t)).Where(t => t.Source == TermSource.Draw).Select(t => t.Index).DefaultIfEmpty(-1).Max();
    }

    /// <summary>Network evaluations in order.</summary>
    public ImmutableArray<Evaluation> Evaluations { get; }

    /// <summary>The new state's slots.</summary>
    public ImmutableArray<ImmutableArray<Term>> Next { get; }

    /// <summary>Number of normal draws that the step uses; 0 for a deterministic sampler.</summary>
    public int Draws { get; }

    /// <summary>Whether a later evaluation of the same step reads this one.</summary>
    /// <param name="index">Index of the evaluation.</param>
    internal bool FeedsLater(int index)
        => Evaluations.Skip(index + 1).Any(e => e.Y.Any(t => t.Source == TermSource.Evaluation && t.Index == index));

    private static ImmutableArray<Term> Clean(IEnumerable<Term> terms, int evaluated)
    {
        ImmutableArray<Term> kept = [.. terms.Where(t => t.Weight != 0)];
        if (kept.IsEmpty)
            throw new ArgumentException("A combination of a step has no term of non-zero weight.", nameof(terms));
        foreach (var term in kept)
        {
            if (!double.IsFinite(term.Weight))
                throw new ArgumentException($"A combination of a step has the weight {term.Weight} for {term.Source} {term.Index}.", nameof(terms));
            if (term.Source == TermSource.Evaluation && term.Index >= evaluated)
                throw new ArgumentException($"A combination reads evaluation {term.Index}, but only {evaluated} are made before it.", nameof(terms));
        }

        return kept;
    }
}
