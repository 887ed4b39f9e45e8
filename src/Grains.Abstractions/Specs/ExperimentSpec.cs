using System.ComponentModel.DataAnnotations;

namespace AdjointDpm.Grains.Specs;

/// <summary>An experiment as a user writes it: one finetuning job and the search over it. Camel-case in YAML and JSON.</summary>
/// <remarks>Every value here is part of the run's identity: equal specs on an equal device kind give equal bits.</remarks>
public sealed record ExperimentSpec
{
    /// <summary>Model to start from.</summary>
    [Required]
    public required ModelSpec Model { get; init; }

    /// <summary>What receives gradients.</summary>
    public TrainSpec Train { get; init; } = new();

    /// <summary>How samples are drawn.</summary>
    public SampleSpec Sample { get; init; } = new();

    /// <summary>Differentiable metrics of the generated sample; their weighted sum is minimised.</summary>
    [Required, MinLength(1)]
    public required IReadOnlyList<LossSpec> Losses { get; init; }

    /// <summary>Judges that took no part in the training, evaluated before and after on fixed seeds.</summary>
    public HeldOutSpec? HeldOut { get; init; }

    /// <summary>How the gradient through the sampler is computed.</summary>
    public GradientSpec Gradient { get; init; } = new();

    /// <summary>Optimiser of the coordinator.</summary>
    public OptimizerSpec Optimizer { get; init; } = new();

    /// <summary>Steps, shards, batch and seed.</summary>
    public TrainingSpec Training { get; init; } = new();

    /// <summary>The number by which trials are ranked.</summary>
    public ObjectiveSpec Objective { get; init; } = new();

    /// <summary>Several numbers to rank by, instead of <see cref="Objective"/>: the best trials are those that no other one is better than in all of them, the Pareto front.</summary>
    public IReadOnlyList<ObjectiveSpec>? Objectives { get; init; }

    /// <summary>Search algorithm over <see cref="Parameters"/>.</summary>
    public AlgorithmSpec Algorithm { get; init; } = new();

    /// <summary>Searched parameters: path into this spec, such as <c>optimizer.learningRate</c>, to its domain. Empty: one trial.</summary>
    public IReadOnlyDictionary<string, ParameterSpec> Parameters { get; init; } = new Dictionary<string, ParameterSpec>();

    /// <summary>Number of trials. For a grid, at most this many of its points. Default: the whole grid, or 1 without parameters.</summary>
    [Range(1, 100_000)]
    public int? MaxTrials { get; init; }

    /// <summary>Ends trials that promise little before their last step. Default: none.</summary>
    public EarlyStoppingSpec? EarlyStopping { get; init; }

    /// <summary>Limits beside <see cref="MaxTrials"/>.</summary>
    public BudgetSpec? Budget { get; init; }

    /// <summary>Trials that run at the same time. Default: 1.</summary>
    [Range(1, 1024)]
    public int MaxConcurrentTrials { get; init; } = 1;

    /// <summary>All numbers that trials are ranked by.</summary>
    internal IReadOnlyList<ObjectiveSpec> Ranked() => Objectives ?? [Objective];

    /// <summary>The losses that are trained on, then the held-out ones.</summary>
    internal IEnumerable<LossSpec> AllLosses() => Losses.Concat(HeldOut?.Losses ?? []);

    /// <summary>What a worker gives to a shard.</summary>
    public ResourceSpec Resources { get; init; } = new();

    /// <summary>What happens when something fails.</summary>
    public FailureSpec Failure { get; init; } = new();

    /// <summary>How often parameters are kept, and pictures made.</summary>
    public CheckpointSpec Checkpoint { get; init; } = new();
}
