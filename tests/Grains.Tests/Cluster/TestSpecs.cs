using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Tests.Cluster;

internal static class TestSpecs
{
    public static ExperimentSpec Small { get; } = new()
    {
        Model = new ModelSpec { Path = "/nowhere" },
        Losses = [new LossSpec { Name = LossName.PixelDistance }],
        Optimizer = new OptimizerSpec { LearningRate = 0.05 },
        Training = new TrainingSpec { Steps = 4, Shards = 5, SamplesPerShard = 2 },
        HeldOut = new HeldOutSpec { Samples = 5 },
        Failure = new FailureSpec { LeaseSeconds = 1.0, MaxShardAttempts = 5 },
    };

    public static ExperimentSubmission Submission(ExperimentSpec spec, string name = "test")
    {
        var json = ExperimentSpecJson.Serialize(spec);
        return new ExperimentSubmission(json, ExperimentSpecJson.Sha256(json), name);
    }
}
