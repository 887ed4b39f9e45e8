using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Trials;

/// <summary>Samples that are the same at every step, because their noise is trained or asked to be fixed; evaluations are of them.</summary>
internal static class FixedSamples
{
    public static bool Are(ExperimentSpec spec) => spec.Train.Target == TrainTarget.Noise || spec.Training.FixedNoise == true;

    /// <summary>How many there are.</summary>
    public static int Total(ExperimentSpec spec) => checked(spec.Training.Shards * spec.Training.SamplesPerShard);

    /// <summary>Starts of each noise.</summary>
    public static int Restarts(ExperimentSpec spec) => spec.Train.Noise?.Box?.Restarts ?? 1;

    /// <summary>Samples of an evaluation.</summary>
    public static int Evaluated(ExperimentSpec spec) => Are(spec) ? Total(spec) : (spec.HeldOut ?? new HeldOutSpec()).Samples;
}
