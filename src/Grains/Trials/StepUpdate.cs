using System.Runtime.InteropServices;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Trials;

/// <summary>From the shards of a step to the next parameters: a pure function, for the coordinator and for a replay.</summary>
/// <param name="Norm">L2 norm of the gradient before clipping.</param>
/// <param name="Parameters">New version.</param>
/// <param name="Optimizer">New optimiser state: fp32, little-endian; empty when the optimiser has none.</param>
/// <param name="ReduceSeconds">How long the gradient took.</param>
internal sealed record StepUpdate(double Norm, byte[] Parameters, byte[] Optimizer, double ReduceSeconds)
{
    /// <param name="reduction">The step's gradient, complete.</param>
    /// <param name="step">Number of the step, from 1.</param>
    /// <param name="spec">Spec, for the optimiser.</param>
    /// <param name="before">Parameters before the step; not changed.</param>
    /// <param name="stateBefore">Optimiser state before the step, empty before the first; not changed.</param>
    /// <param name="time">Clock.</param>
    /// <param name="spare">Where the result goes.</param>
    public static StepUpdate Of(GradientReduction reduction, int step, ExperimentSpec spec, byte[] before, byte[] stateBefore, TimeProvider time, SpareMemory spare = default)
    {
        var started = time.GetTimestamp();
        var gradient = reduction.Mean();
        var norm = GradientNorm.L2(gradient);
        var reduced = time.GetElapsedTime(started).TotalSeconds;
        var (parameters, state) = Stepped(gradient, norm, step, spec, before, stateBefore, spare);
        reduction.Return(gradient);
        return new StepUpdate(norm, parameters, state, reduced);
    }

    /// <summary>The optimiser step on all parameters or on a range of them: elementwise, so the bits are the same.</summary>
    public static (byte[] Parameters, byte[] Optimizer) Stepped(float[] gradient, double norm, int step, ExperimentSpec spec, byte[] before, byte[] stateBefore, SpareMemory spare = default)
    {
        // Of noise each sample has its own limit.
        if (spec.Train.Target != TrainTarget.Noise)
            GradientNorm.Clip(gradient, norm, spec.Optimizer.MaxNorm);
        // On copies: a commit that fails leaves what is here as it was.
        var parameters = Copy(before, spare.Parameters);
        var optimizer = ParameterOptimizer.Of(spec);
        var state = stateBefore.Length == 0 ? new byte[before.Length * optimizer.StatePerParameter] : Copy(stateBefore, spare.Optimizer);
        optimizer.Step(step, MemoryMarshal.Cast<byte, float>(parameters.AsSpan()), gradient, MemoryMarshal.Cast<byte, float>(state.AsSpan()));
        return (parameters, state);
    }

    private static byte[] Copy(byte[] bytes, byte[]? into)
    {
        var copy = into?.Length == bytes.Length ? into : GC.AllocateUninitializedArray<byte>(bytes.Length);
        bytes.CopyTo(copy, 0);
        return copy;
    }

    /// <summary>What is recorded of a step.</summary>
    public static Dictionary<string, double> Metrics(WorkResult[] shards, double norm)
    {
        var metrics = Means(shards).ToDictionary(pair => pair.Key, pair => pair.Value);
        metrics["gradientNorm"] = norm;
        return metrics;
    }

    /// <summary>Means over all samples, added in the order of the shards.</summary>
    public static IEnumerable<KeyValuePair<string, double>> Means(WorkResult[] parts)
    {
        var weight = parts.Sum(part => part.Weight);
        if (weight == 0)
            throw new WorkFailedException("No sample was drawn, so there is nothing to average.");
        foreach (var name in parts[0].Sums.Keys.Order(StringComparer.Ordinal))
            yield return new(name, parts.Sum(part => part.Sums[name]) / weight);
    }
}

/// <summary>Memory that nobody reads any more and a step may write to, where it has the length: memory that is new costs more than the step.</summary>
/// <param name="Parameters">For the new version.</param>
/// <param name="Optimizer">For the new optimiser state.</param>
internal readonly record struct SpareMemory(byte[]? Parameters, byte[]? Optimizer);
