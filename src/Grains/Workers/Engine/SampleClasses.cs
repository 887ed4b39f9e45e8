using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Which classes samples are asked to show.</summary>
internal static class SampleClasses
{
    /// <summary>Whether a loss asks a classifier for classes.</summary>
    public static bool IsSeenBy(LossSpec loss) => loss.Name is LossName.CrossEntropy or LossName.LogProbability or LossName.Margin;

    /// <param name="spec">Spec.</param>
    /// <param name="embeddings">Rows of the model's class table; null for a model without classes.</param>
    /// <param name="classesOf">Number of classes of a classifier folder.</param>
    /// <returns>Classes in order; empty for a model without classes.</returns>
    /// <remarks>
    /// A table trained for guidance has one row more than there are classes, the last, for "no class". Nothing in the model's files says
    /// so; a classifier that judges the samples does, by its own number of classes, and so does asking for guidance.
    /// </remarks>
    public static int[] Of(ExperimentSpec spec, int? embeddings, Func<string, int> classesOf)
    {
        if (embeddings is not { } rows)
            return spec.Sample.Classes is null ? [] : throw new InvalidDataException("sample.classes is set, but the model has no classes. Remove it.");
        if (spec.Sample.Classes is { Count: > 0 } chosen)
            return chosen.All(c => c >= 0 && c < rows) ? [.. chosen] : throw new InvalidDataException($"sample.classes holds {chosen.First(c => c < 0 || c >= rows)}, but the model's classes are 0 to {rows - 1}.");
        var count = spec.Sample.Guidance == 1 ? rows : rows - 1;
        foreach (var judge in spec.AllLosses().Where(IsSeenBy).Select(loss => loss.Classifier).Append(spec.HeldOut?.Classifier))
            if (judge is not null)
                count = Math.Min(count, classesOf(judge));
        return [.. Enumerable.Range(0, count)];
    }
}
