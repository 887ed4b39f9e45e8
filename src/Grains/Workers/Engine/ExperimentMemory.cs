using AdjointDpm.Grains.Experiments.Searching;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Grains.Trials;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Plans for experiments outside any cluster.</summary>
public static class ExperimentMemory
{
    /// <summary>What a shard of an experiment would hold on this machine, by gradient method, and what the whole will take.</summary>
    /// <param name="request">What is asked. Without <see cref="PlanRequest.FromConfiguration"/> text models with networks of more than 100 million weights are planned without being loaded.</param>
    /// <param name="telling">Told how far it is; null for nobody.</param>
    /// <param name="cancellationToken">Looked at between measurements.</param>
    /// <exception cref="InsufficientMemoryException">Nothing fits; says what would.</exception>
    public static ShardMemory Plan(PlanRequest request, IProgress<ToolProgress>? telling = null, CancellationToken cancellationToken = default) => Plan(request, OwnLosses.None, telling, cancellationToken);

    /// <inheritdoc cref="Plan(PlanRequest, IProgress{ToolProgress}, CancellationToken)"/>
    internal static ShardMemory Plan(PlanRequest request, OwnLosses own, IProgress<ToolProgress>? telling, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        Native.NativeTorch.EnsureLoaded();
        var spec = ExperimentSpecJson.Deserialize(request.SpecJson);
        if (request.FromConfiguration != false && MemoryEstimates.Of(spec, request.Budget, request.FromConfiguration == true) is { } estimated)
            return estimated;
        // What is found is as exact as this.
        if (spec.Gradient.Method == GradientName.Auto)
            spec = spec with { Gradient = spec.Gradient with { Method = GradientName.Discrete } };
        using var engine = new GradientEngine("cpu:0", own);
        telling?.Report(new("measuring memory by method", 0, 0));
        var memory = engine.Memory(spec, request.Budget, cancellationToken);
        if (request.SearchJson is null || spec.Train.Target == TrainTarget.None)
            return memory;
        telling?.Report(new("timing one shard", 0, 0));
        return memory with { Cost = CostOf(ExperimentSpecJson.Deserialize(request.SearchJson), engine.Cost(spec, cancellationToken)) };
    }

    /// <summary>All trials, from what one shard of them took.</summary>
    internal static RunCost CostOf(ExperimentSpec search, WorkStatistics shard)
    {
        var (trials, training) = (new Search(search).Trials, search.Training);
        var parts = (FixedSamples.Evaluated(search) + training.SamplesPerShard - 1) / training.SamplesPerShard;
        var looks = 2 + (search.HeldOut?.Every is { } every ? training.Steps / every : 0);
        var shards = (long)trials * training.Steps * training.Shards;
        var evaluations = (long)trials * looks * parts;
        var seconds = shard.ForwardSeconds + shard.LossSeconds + shard.BackwardSeconds;
        return new RunCost(trials, training.Steps, training.Shards, shards * shard.ForwardNfe, shards * shard.BackwardNfe, shards * shard.Vjps, evaluations * shard.ForwardNfe, seconds, (shards * seconds) + (evaluations * (shard.ForwardSeconds + shard.LossSeconds)));
    }
}
