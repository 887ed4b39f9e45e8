using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Specs;

/// <summary>Optimiser.</summary>
public sealed record OptimizerSpec
{
    /// <summary>Which optimiser. Default: adamw.</summary>
    public OptimizerName Name { get; init; } = OptimizerName.AdamW;

    /// <summary>Learning rate. Default: 1e-4.</summary>
    [Range(1e-12, 1e3)]
    public double LearningRate { get; init; } = 1e-4;

    /// <summary>First-moment decay. Default: 0.9.</summary>
    [Range(0.0, 0.999999)]
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Second-moment decay. Default: 0.999.</summary>
    [Range(0.0, 0.999999999)]
    public double Beta2 { get; init; } = 0.999;

    /// <summary>Added to the root of the second moment. Default: 1e-8.</summary>
    [Range(0.0, 1.0)]
    public double Epsilon { get; init; } = 1e-8;

    /// <summary>Decoupled weight decay. Default: 0.</summary>
    [Range(0.0, 10.0)]
    public double WeightDecay { get; init; }

    /// <summary>Clip the gradient to this L2 norm. Default: no clipping.</summary>
    [Range(1e-12, 1e12)]
    public double? MaxNorm { get; init; }
}

/// <summary>Optimisers a spec may name.</summary>
public enum OptimizerName
{
    /// <summary>Adam with decoupled weight decay.</summary>
    [JsonStringEnumMemberName("adamw")]
    AdamW,

    /// <summary>Plain gradient descent.</summary>
    Sgd,
}

/// <summary>Size and seed of a training run.</summary>
public sealed record TrainingSpec
{
    /// <summary>Optimiser steps. Default: 20.</summary>
    [Range(1, 10_000_000)]
    public int Steps { get; init; } = 20;

    /// <summary>Logical shards of a step: fixed, whatever the number of workers. Default: 4.</summary>
    [Range(1, 65_536)]
    public int Shards { get; init; } = 4;

    /// <summary>Samples a shard draws and differentiates. Default: 4.</summary>
    [Range(1, 65_536)]
    public int SamplesPerShard { get; init; } = 4;

    /// <summary>Seed of all noise: keyed (seed, step, shard, sample). Default: 1.</summary>
    [Range(0, int.MaxValue)]
    public int Seed { get; init; } = 1;

    /// <summary>How gradients travel from workers: none (fp32), bf16 or fp16 with the rounding error carried into the shard's next gradient, in full every eighth step. Default: none.</summary>
    public GradientEncoding? GradientEncoding { get; init; }

    /// <summary>Draw the same noise at every step, and evaluate on it: for a fit to one picture. Default: false; train.target noise has it always.</summary>
    public bool? FixedNoise { get; init; }
}

/// <summary>Encodings of gradients on their way that a spec may name.</summary>
public enum GradientEncoding
{
    /// <summary>fp32, as computed.</summary>
    None,

    /// <summary>bfloat16: half the bytes, the range of fp32.</summary>
    [JsonStringEnumMemberName("bf16")]
    Bf16,

    /// <summary>IEEE half precision: half the bytes, three more bits than bf16, and an error beyond 65504.</summary>
    [JsonStringEnumMemberName("fp16")]
    Fp16,
}
