using AdjointDpm.Gradients;
using AdjointDpm.Schedules;
using static TorchSharp.torch;

namespace AdjointDpm.Samplers;

/// <summary>What to sample: a field, from where, along which grid, how.</summary>
public sealed record SampleRequest
{
    /// <summary>Noise prediction and its declared inputs.</summary>
    public required NoiseField Field { get; init; }

    /// <summary>x_T, the state at the grid's start: standard normal for variance-preserving schedules, rho_T times that for variance-exploding ones. Float32 or float64; the state is kept in its dtype. Not modified.</summary>
    public required Tensor Noise { get; init; }

    /// <summary>Noise levels to visit.</summary>
    public required TimeGrid Grid { get; init; }

    /// <summary>Method. Default: <see cref="Sampler.Ddim"/>.</summary>
    public Sampler Sampler { get; init; } = Sampler.Ddim;

    /// <summary>Tensors added to x at the grid's points before the steps from there, of the noise's shape and dtype; null for none. Default: none. Their gradients are <see cref="SampleGradients.States"/>.</summary>
    /// <remarks>Controls of the noise eps rather than of the state, as in FlowGrad, belong into a <see cref="SteppedPredictor"/>. Adaptive and reversible samplers and the continuous adjoint take none here.</remarks>
    public IReadOnlyList<Tensor?> Controls { get; init; } = [];

    /// <summary>Names the draws of a stochastic sampler; unused by deterministic ones. Default: seed 0.</summary>
    public NoiseKey Key { get; init; }

    /// <summary>Index within the shard of the first sample of <see cref="Noise"/>, so that draws do not depend on batching. Default: 0.</summary>
    public uint FirstSample { get; init; }

    /// <summary>Told after every step, on the calling thread. Default: nobody.</summary>
    public IProgress<SolveProgress>? Progress { get; init; }

    /// <summary>Clock for the statistics. Default: the system's.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;
}

/// <summary>Which part of the work is under way.</summary>
public enum SolvePhase
{
    /// <summary>From noise to sample.</summary>
    Forward,

    /// <summary>The gradient's sweep from sample to noise.</summary>
    Backward,
}

/// <summary>How far a solve has come.</summary>
/// <param name="Phase">Part of the work.</param>
/// <param name="Done">Steps done in this phase.</param>
/// <param name="Steps">Steps of the phase.</param>
public readonly record struct SolveProgress(SolvePhase Phase, int Done, int Steps);
