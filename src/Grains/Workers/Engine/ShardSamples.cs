using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Samplers;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Which samples a batch holds: some of one shard.</summary>
/// <param name="Key">Names the shard's noise.</param>
/// <param name="Shard">Logical shard; for held-out samples 0.</param>
/// <param name="From">First sample within the shard.</param>
/// <param name="Count">Samples.</param>
/// <param name="First">Number of the first sample among all that are ever drawn with this seed: decides what it is asked to show.</param>
/// <param name="Conditions">What each is asked to show, by number; empty for a model that is asked for nothing.</param>
internal sealed record ShardSamples(NoiseKey Key, int Shard, int From, int Count, long First, long[] Conditions)
{
    /// <summary>Optimiser step.</summary>
    public int Step { get; init; }

    /// <summary>What a sample is asked to show, counted in turn: starts of one noise are asked for the same.</summary>
    public static long[] ConditionsOf(ExperimentSpec spec, int[] conditions, long first, int count) => conditions.Length == 0 ? []
        : [.. Enumerable.Range(0, count).Select(i => (long)conditions[(first + i) / FixedSamples.Restarts(spec) % conditions.Length])];

    /// <summary>Samples of a training step.</summary>
    public static ShardSamples OfStep(ExperimentSpec spec, int[] conditions, int step, int shard, int from, int count)
    {
        var drawn = FixedSamples.Are(spec) ? 0 : step;
        var first = ((long)drawn * spec.Training.Shards + shard) * spec.Training.SamplesPerShard + from;
        return new(new NoiseKey((ulong)spec.Training.Seed, (uint)drawn, (ushort)shard), shard, from, count, first, ConditionsOf(spec, conditions, first, count)) { Step = step };
    }

    /// <summary>Samples of an evaluation: held-out ones, or those of the fixed set. Of the latter a call may ask for those of one shard.</summary>
    public static ShardSamples OfEvaluation(ExperimentSpec spec, int[] conditions, int first, int count)
    {
        if (FixedSamples.Are(spec))
            return OfStep(spec, conditions, 0, first / spec.Training.SamplesPerShard, first % spec.Training.SamplesPerShard, count);
        var heldOut = spec.HeldOut ?? new HeldOutSpec();
        return new(new NoiseKey((ulong)heldOut.Seed), 0, first, count, first, ConditionsOf(spec, conditions, first, count));
    }
}
