using System.Globalization;

namespace AdjointDpm.Grains.Experiments;

/// <summary>Which trials of an experiment are wanted, and in which order.</summary>
[GenerateSerializer, Immutable, Alias("adjointdpm.TrialQuery")]
public sealed record TrialQuery
{
    /// <summary>Conditions, all of which a trial meets.</summary>
    [Id(0)] public IReadOnlyList<TrialCondition> Where { get; init; } = [];

    /// <summary>What to sort by: a name as in a condition; null for the index. Trials without it come last, and of equals the lower index first.</summary>
    [Id(1)] public string? Sort { get; init; }

    /// <summary>Whether the largest comes first.</summary>
    [Id(2)] public bool Descending { get; init; }

    /// <summary>Trials to leave out.</summary>
    [Id(3)] public int Skip { get; init; }

    /// <summary>At most this many, and at most <see cref="ExperimentSnapshot.MostTrials"/>.</summary>
    [Id(4)] public int Take { get; init; } = 100;

    /// <summary>The trials that are asked for.</summary>
    /// <param name="trials">All trials by index, without their losses.</param>
    internal (IReadOnlyList<TrialSnapshot> Page, int Matched) Of(IEnumerable<TrialSnapshot> trials)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(Skip);
        var matched = trials.Where(trial => Where.All(condition => condition.Holds(trial))).ToList();
        var sorted = Sort is not { } name ? Descending ? matched.AsEnumerable().Reverse() : matched
            : matched.Select(trial => (Trial: trial, Key: TrialValues.Of(trial, name))).OrderBy(row => row.Key is null)
                .ThenBy(row => row.Key ?? "", Descending ? Comparer<string>.Create((a, b) => TrialValues.Compare(b, a)) : Comparer<string>.Create(TrialValues.Compare)).Select(row => row.Trial);
        return ([.. sorted.Skip(Skip).Take(Math.Clamp(Take, 0, ExperimentSnapshot.MostTrials))], matched.Count);
    }
}

/// <summary>Trials that were asked for.</summary>
/// <param name="Trials">A page of them, with short loss histories.</param>
/// <param name="Matched">How many meet the conditions.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.TrialPage")]
public sealed record TrialPage([property: Id(0)] IReadOnlyList<TrialSnapshot> Trials, [property: Id(1)] int Matched);

/// <summary>How a condition compares.</summary>
public enum TrialComparison
{
    /// <summary>Equal, as numbers where both are numbers.</summary>
    Equal,

    /// <summary>Not equal, or absent.</summary>
    NotEqual,

    /// <summary>Less.</summary>
    Less,

    /// <summary>Less or equal.</summary>
    LessOrEqual,

    /// <summary>Greater.</summary>
    Greater,

    /// <summary>Greater or equal.</summary>
    GreaterOrEqual,
}

/// <summary>A condition on a trial.</summary>
/// <param name="Name">A searched parameter by its path or the end of it, a metric, or <c>index</c>, <c>state</c> or <c>step</c>.</param>
/// <param name="Comparison">How it is compared.</param>
/// <param name="Value">What it is compared with.</param>
[GenerateSerializer, Immutable, Alias("adjointdpm.TrialCondition")]
public sealed record TrialCondition([property: Id(0)] string Name, [property: Id(1)] TrialComparison Comparison, [property: Id(2)] string Value)
{
    // The longer first, so that <= is not read as <.
    private static readonly (string Sign, TrialComparison Comparison)[] Signs =
        [("<=", TrialComparison.LessOrEqual), (">=", TrialComparison.GreaterOrEqual), ("!=", TrialComparison.NotEqual), ("=", TrialComparison.Equal), ("<", TrialComparison.Less), (">", TrialComparison.Greater)];

    /// <summary>Reads a condition as people write it, such as <c>learningRate&lt;1e-3</c>.</summary>
    /// <exception cref="ArgumentException">It is none; the message says how to write one.</exception>
    public static TrialCondition Parse(string text)
    {
        var at = text.IndexOfAny(['<', '>', '=', '!']);
        foreach (var (sign, comparison) in at > 0 ? Signs : [])
            if (string.CompareOrdinal(text, at, sign, 0, sign.Length) == 0 && text[..at].Trim() is { Length: > 0 } name && text[(at + sign.Length)..].Trim() is { Length: > 0 } value)
                return new(name, comparison, value);
        throw new ArgumentException($"'{text}' is not a condition. Write a name, one of < <= > >= = !=, and a value, such as learningRate<1e-3 or state=succeeded.");
    }

    internal bool Holds(TrialSnapshot trial)
    {
        if (TrialValues.Of(trial, Name) is not { } value)
            return Comparison == TrialComparison.NotEqual;
        var order = TrialValues.Compare(value, Value);
        return Comparison switch
        {
            TrialComparison.Equal => order == 0,
            TrialComparison.NotEqual => order != 0,
            TrialComparison.Less => order < 0,
            TrialComparison.LessOrEqual => order <= 0,
            TrialComparison.Greater => order > 0,
            _ => order >= 0,
        };
    }
}

/// <summary>Values of trials by name, for sorting and filtering.</summary>
internal static class TrialValues
{
    /// <summary>A trial's value; null when it has none.</summary>
    public static string? Of(TrialSnapshot trial, string name)
    {
        if (trial.Parameters.TryGetValue(name, out var exact))
            return exact;
        if (trial.Metrics.TryGetValue(name, out var metric))
            return double.IsFinite(metric) ? metric.ToString("r", CultureInfo.InvariantCulture) : null;
        return name switch
        {
            "index" => trial.Index.ToString(CultureInfo.InvariantCulture),
            "state" => trial.State.ToString().ToLowerInvariant(),
            "step" => trial.Step.ToString(CultureInfo.InvariantCulture),
            _ => trial.Parameters.Where(parameter => parameter.Key.EndsWith("." + name, StringComparison.Ordinal)).Select(parameter => parameter.Value).FirstOrDefault(),
        };
    }

    /// <summary>Numbers by their size and before words, which go by their letters.</summary>
    public static int Compare(string a, string b) => (Number(a), Number(b)) switch
    {
        ({ } x, { } y) => x.CompareTo(y),
        (null, null) => string.Compare(a, b, StringComparison.OrdinalIgnoreCase),
        (null, _) => 1,
        _ => -1,
    };

    private static double? Number(string text) => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) ? number : null;
}
