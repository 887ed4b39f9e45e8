using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Cluster.Tests;

/// <summary>Experiments on the 8x8 digits: a real network, small enough for seconds.</summary>
internal static class DigitsSpecs
{
    public static string Models { get; } = Find(Path.Combine("examples", "models"));

    public static ExperimentSpec Small { get; } = new()
    {
        Model = new ModelSpec { Path = Path.Combine(Models, "digits8-dpm") },
        Train = new TrainSpec { Include = ["mid_block*"] },
        Sample = new SampleSpec { Steps = 4 },
        Losses = [new LossSpec { Name = LossName.CrossEntropy, Classifier = Path.Combine(Models, "digits8-classifier") }],
        HeldOut = new HeldOutSpec { Classifier = Path.Combine(Models, "digits8-classifier-heldout"), Samples = 20 },
        Optimizer = new OptimizerSpec { LearningRate = 1e-3 },
        Training = new TrainingSpec { Steps = 3, Shards = 4, SamplesPerShard = 5, Seed = 3 },
        Failure = new FailureSpec { LeaseSeconds = 2.0, MaxShardAttempts = 20 },
        Checkpoint = new CheckpointSpec { SheetRows = 2 },
    };

    private static string Find(string relative)
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (Directory.Exists(Path.Combine(folder.FullName, relative)))
                return Path.Combine(folder.FullName, relative);
        throw new DirectoryNotFoundException($"No '{relative}' above '{AppContext.BaseDirectory}'.");
    }
}
