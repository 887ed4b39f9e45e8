using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Workers;

/// <summary>The computations of a worker. Called from one thread only, the device's own; synchronous.</summary>
/// <remarks>Two kinds exist: the device's, and a small closed form for tests of the cluster.</remarks>
internal interface IGradientEngine : IDisposable
{
    /// <summary>What is trained: its values before the first step.</summary>
    PreparedTrial Prepare(TrialPlan plan, CancellationToken cancellationToken);

    /// <summary>Draws the samples of a shard and differentiates the loss on them.</summary>
    /// <param name="plan">Trial.</param>
    /// <param name="parameters">Trained parameters.</param>
    /// <param name="step">Steps committed before this one.</param>
    /// <param name="shard">Logical shard.</param>
    /// <param name="cancellationToken">Looked at between sampler steps.</param>
    ShardGradient Differentiate(TrialPlan plan, ParameterVersion parameters, int step, int shard, CancellationToken cancellationToken);

    /// <summary>Proves the gradient on the samples that the spec asks for, in float64.</summary>
    GradientProofReport Prove(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken);

    /// <summary>Draws held-out samples and judges them.</summary>
    Evaluation Evaluate(TrialPlan plan, ParameterVersion parameters, int firstSample, int samples, CancellationToken cancellationToken);

    /// <summary>Draws a row of samples, always of the same noise, as a PNG picture.</summary>
    byte[] Draw(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken);

    /// <summary>Writes pictures, curves and the tuned model into a folder that exists and is empty.</summary>
    void Save(TrialPlan plan, ParameterVersion before, ParameterVersion after, string metricsFile, string folder, CancellationToken cancellationToken);

    /// <summary>Lets go of what a trial can do without: models and classifiers that are kept for others.</summary>
    /// <returns>Whether there was anything.</returns>
    bool Spare(TrialPlan plan);

    /// <summary>Bytes of the models that are kept between pieces of work.</summary>
    long HeldBytes => 0;

    /// <summary>Bytes that a trial's work needs above <see cref="HeldBytes"/>; null when nobody knows yet.</summary>
    /// <param name="plan">Trial.</param>
    /// <param name="isGradient">Whether the work is a shard's gradient.</param>
    long? BytesAbove(TrialPlan plan, bool isGradient) => null;
}

/// <summary>Makes the engine of a device, on the device's thread.</summary>
internal interface IGradientEngineFactory
{
    IGradientEngine Create(string device);
}

/// <summary>A trial as an engine sees it.</summary>
/// <param name="Spec">Spec of the trial, its overrides applied.</param>
/// <param name="ModelSha256">Hash that the model's files must have; empty when not known yet.</param>
/// <param name="Lean">Gradients are computed one sample at a time and never with all graphs at once: the least memory, and other last bits.</param>
/// <param name="Guided">Whether samples are drawn with sample.lookAhead, which is what train.target none compares.</param>
internal sealed record TrialPlan(ExperimentSpec Spec, string ModelSha256, bool Lean = false, bool Guided = false)
{
    /// <summary>Called whenever the work gets on: with every step of a sampler, and what was loaded.</summary>
    public Action? Progressed { get; init; }
}

/// <summary>Trained parameters by content.</summary>
/// <param name="Sha256">SHA-256 of the bytes.</param>
/// <param name="Bytes">fp32, little-endian, in declaration order.</param>
internal sealed record ParameterVersion(string Sha256, ReadOnlyMemory<byte> Bytes);

/// <param name="Parameters">fp32, little-endian, in declaration order.</param>
/// <param name="ModelSha256">Hash over the model's files.</param>
/// <param name="PlannedBytes">What a shard's gradient will hold above the weights, by the model's configuration; null where only a measurement tells.</param>
/// <param name="Hardware">The machine, for people.</param>
/// <param name="Arithmetic">Which last bits the device gives; null where nobody tells.</param>
internal sealed record PreparedTrial(byte[] Parameters, string ModelSha256, long? PlannedBytes = null, string? Hardware = null, string? Arithmetic = null);

/// <param name="Gradient">Mean over the shard's samples: fp32, little-endian, in declaration order. Handed over.</param>
/// <param name="Samples">Number of samples: the shard's weight.</param>
/// <param name="Sums">Loss and its parts, summed over the samples.</param>
/// <param name="Statistics">What it cost.</param>
internal sealed record ShardGradient(byte[] Gradient, int Samples, IReadOnlyDictionary<string, double> Sums, WorkStatistics Statistics);

/// <param name="Samples">Number of samples.</param>
/// <param name="Sums">Loss and its parts, and what the judge counted, summed over the samples.</param>
/// <param name="Statistics">What it cost.</param>
internal sealed record Evaluation(int Samples, IReadOnlyDictionary<string, double> Sums, WorkStatistics Statistics);
