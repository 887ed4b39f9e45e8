using AdjointDpm.Models;
using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>The training schedule: 1000 steps of linearly growing β, as Ho et al. (2020) have it, as tables of float32.</summary>
internal sealed class NoiseTable
{
    public NoiseTable()
    {
        var levels = Enumerable.Range(0, Steps).Select(t => Schedule.Schedule().At(t)).ToArray();
        Alpha = tensor(Array.ConvertAll(levels, l => (float)l.Alpha));
        Sigma = tensor(Array.ConvertAll(levels, l => (float)l.Sigma));
    }

    public static SchedulerConfig Schedule { get; } = new() { TimestepSpacing = "trailing", SetAlphaToOne = true, ClipSample = false };

    public static int Steps => Schedule.NumTrainTimesteps;

    public Tensor Alpha { get; }

    public Tensor Sigma { get; }
}
