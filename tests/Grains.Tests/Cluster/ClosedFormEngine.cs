using System.Runtime.InteropServices;
using AdjointDpm.Gradients;
using AdjointDpm.Grains.DataPlane;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Workers;

namespace AdjointDpm.Grains.Tests.Cluster;

/// <summary>A quadratic loss with a gradient in closed form, so that tests of the cluster need no network: L = ½‖θ − c‖² + noise keyed by (step, shard).</summary>
internal sealed class ClosedFormEngine(EngineScript script, string silo) : IGradientEngine
{
    public const string Model = "0000000000000000000000000000000000000000000000000000000000000000";

    public PreparedTrial Prepare(TrialPlan plan, CancellationToken cancellationToken) =>
        new(MemoryMarshal.AsBytes<float>([.. Enumerable.Range(0, script.Parameters).Select(i => 0.01f * i)]).ToArray(), Model);

    public ShardGradient Differentiate(TrialPlan plan, ParameterVersion parameters, int step, int shard, CancellationToken cancellationToken)
    {
        script.BeforeShard(silo, step, shard, cancellationToken);
        if (script.MemoryShortFrom is { } first && step >= first && (!plan.Lean || script.NeverEnough))
            // A petabyte: libtorch's own error.
            TorchSharp.torch.empty(1L << 48).Dispose();
        Assert.Equal(parameters.Sha256, TensorReference.HashOf(parameters.Bytes.Span));
        var theta = MemoryMarshal.Cast<byte, float>(parameters.Bytes.Span);
        var gradient = new float[theta.Length];
        var random = new Random(HashCode(plan.Spec.Training.Seed, step, shard));
        var loss = 0.0;
        for (var i = 0; i < theta.Length; i++)
        {
            gradient[i] = theta[i] - 1 + script.Bias + (float)(random.NextDouble() - 0.5);
            loss += 0.5 * (theta[i] - 1.0) * (theta[i] - 1.0);
        }
        if (plan.Spec.Optimizer.LearningRate > 100)
            throw new NonFiniteException("loss", 3, 0.5);
        var samples = plan.Spec.Training.SamplesPerShard;
        return new ShardGradient(MemoryMarshal.AsBytes<float>(gradient).ToArray(), samples, new Dictionary<string, double> { ["loss"] = loss * samples }, new WorkStatistics { Samples = samples, ForwardNfe = 20, BackwardNfe = 20, Vjps = 20 });
    }

    public GradientProofReport Prove(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken)
    {
        var error = script.GradientError;
        return new()
        {
            Method = "discrete", Exact = true, Passed = error == 0, Findings = error == 0 ? [] : [$"all: relative error {error}."], Sampler = "ddim", Steps = 1, Samples = 1,
            Groups = [new("x_T", 1, 1 + error, error)], States = [], Differences = [], ForwardNfe = 1, BackwardNfe = 1, Vjps = 1, DifferenceNfe = 0,
        };
    }

    public Evaluation Evaluate(TrialPlan plan, ParameterVersion parameters, int firstSample, int samples, CancellationToken cancellationToken)
    {
        var theta = MemoryMarshal.Cast<byte, float>(parameters.Bytes.Span);
        var loss = 0.0;
        foreach (var value in theta)
            loss += 0.5 * (value - 1.0) * (value - 1.0);
        return new Evaluation(samples, new Dictionary<string, double> { ["loss"] = loss * samples, ["accuracy"] = samples }, new WorkStatistics { Samples = samples });
    }

    /// <summary>The first number of the parameters, for a picture.</summary>
    public byte[] Draw(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken) => [(byte)'P', .. parameters.Bytes[..4].Span];

    public void Save(TrialPlan plan, ParameterVersion before, ParameterVersion after, string metricsFile, string folder, CancellationToken cancellationToken)
    {
        File.Copy(metricsFile, Path.Combine(folder, "metrics.jsonl"));
        File.WriteAllBytes(Path.Combine(folder, "parameters.bin"), after.Bytes.ToArray());
    }

    public bool Spare(TrialPlan plan) => script.Spare();

    public void Dispose()
    {
    }

    // System.HashCode is seeded per process; this is not.
    private static int HashCode(int seed, int step, int shard) => unchecked((seed * 1_000_003 + step) * 1_000_003 + shard);
}

/// <summary>As libtorch throws them.</summary>
internal sealed class NativeException(string message) : ExternalException(message);

/// <summary>What a test makes engines do.</summary>
internal sealed class EngineScript
{
    public int Parameters { get; init; } = 10;

    /// <summary>Step from which gradients of whole shards do not fit; null for never.</summary>
    public int? MemoryShortFrom { get; init; }

    /// <summary>Nor do those of single samples.</summary>
    public bool NeverEnough { get; init; }

    /// <summary>Relative error that proofs of the gradient find.</summary>
    public double GradientError { get; init; }

    /// <summary>Runs on the device's thread before a shard is computed, with silo, step and shard; may block, throw, or count.</summary>
    public Action<string, int, int, CancellationToken> BeforeShard { get; set; } = (_, _, _, _) => { };

    /// <summary>Lets go of what is kept for other trials; whether there was anything.</summary>
    public Func<bool> Spare { get; set; } = () => false;

    /// <summary>Added to every gradient, as by a device that computes wrongly.</summary>
    public float Bias { get; set; }

    public IGradientEngineFactory On(string silo) => new Factory(this, silo);

    private sealed class Factory(EngineScript script, string silo) : IGradientEngineFactory
    {
        public IGradientEngine Create(string device) => new ClosedFormEngine(script, silo);
    }
}
