using System.Text.Json.Nodes;
using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>The training schedule: 1000 steps of linearly growing β, as Ho et al. (2020) have it.</summary>
internal sealed class NoiseTable
{
    public const int Steps = 1000;
    private const double First = 1e-4;
    private const double Last = 0.02;

    public NoiseTable()
    {
        var alphaBar = new double[Steps];
        var product = 1.0;
        for (var i = 0; i < Steps; i++)
            alphaBar[i] = product *= 1 - (First + (Last - First) * i / (Steps - 1));
        Alpha = tensor(Array.ConvertAll(alphaBar, a => (float)Math.Sqrt(a)));
        Sigma = tensor(Array.ConvertAll(alphaBar, a => (float)Math.Sqrt(1 - a)));
        AlphaBar = alphaBar;
    }

    public Tensor Alpha { get; }

    public Tensor Sigma { get; }

    public double[] AlphaBar { get; }

    public static JsonObject SchedulerConfig() => new()
    {
        ["_class_name"] = "DDIMScheduler",
        ["num_train_timesteps"] = Steps,
        ["beta_start"] = First,
        ["beta_end"] = Last,
        ["beta_schedule"] = "linear",
        ["prediction_type"] = "epsilon",
        ["clip_sample"] = false,
        ["set_alpha_to_one"] = true,
        ["timestep_spacing"] = "trailing",
    };
}
