namespace AdjointDpm.Samplers;

/// <summary>A linear combination of a step's tensors under construction, with the algebra in which multistep methods are written. Immutable.</summary>
internal sealed class Combination
{
    private readonly IReadOnlyList<Term> _terms;

    private Combination(IReadOnlyList<Term> terms) => _terms = terms;

    /// <summary>Nothing yet.</summary>
    public static Combination Zero { get; } = new([]);

    /// <summary>The terms, each tensor once.</summary>
    public IEnumerable<Term> Terms => _terms;

    /// <summary>A slot of the state.</summary>
    public static Combination Slot(int index) => new([Term.Slot(index)]);

    /// <summary>An evaluation of this step.</summary>
    public static Combination Evaluation(int index) => new([Term.Evaluation(index)]);

    /// <summary>A draw of this step.</summary>
    public static Combination Draw(int index) => new([Term.Draw(index)]);

    public static Combination operator +(Combination a, Combination b)
        => new([.. a._terms.Concat(b._terms).GroupBy(t => (t.Source, t.Index)).Select(g => new Term(g.Key.Source, g.Key.Index, g.Sum(t => t.Weight)))]);

    public static Combination operator -(Combination a, Combination b) => a + (-1 * b);

    public static Combination operator *(double weight, Combination a) => new([.. a._terms.Select(t => t with { Weight = weight * t.Weight })]);

    public static Combination operator /(Combination a, double divisor) => (1 / divisor) * a;
}
