using System.Text.Json.Serialization;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Models;

/// <summary>A diffusers <c>scheduler_config.json</c>: the noise schedule a network was trained on, and how its steps are spaced.</summary>
/// <remarks>Missing fields have the defaults of the class that <c>_class_name</c> names. Clipping of the predicted sample is left out: a clipped pixel has no gradient.</remarks>
public sealed record SchedulerConfig
{
    /// <summary>The diffusers class, such as <c>DDIMScheduler</c>.</summary>
    [JsonPropertyName("_class_name"), JsonPropertyOrder(-1)]
    public string ClassName { get; init; } = "DDIMScheduler";

    /// <summary>Number of steps the network was trained on. Default: 1000.</summary>
    public int NumTrainTimesteps { get; init; } = 1000;

    /// <summary>First β. Default: 1e-4.</summary>
    public double BetaStart { get; init; } = 1e-4;

    /// <summary>Last β. Default: 0.02.</summary>
    public double BetaEnd { get; init; } = 0.02;

    /// <summary><c>linear</c>, <c>scaled_linear</c> or <c>squaredcos_cap_v2</c>. Default: linear.</summary>
    public string BetaSchedule { get; init; } = "linear";

    /// <summary>The βs themselves, which win over the three fields above. Default: none.</summary>
    public IReadOnlyList<double>? TrainedBetas { get; init; }

    /// <summary><c>epsilon</c>, <c>v_prediction</c> or <c>sample</c>. Default: epsilon.</summary>
    public string PredictionType { get; init; } = "epsilon";

    /// <summary><c>leading</c>, <c>trailing</c> or <c>linspace</c>. Default: the class's, mostly leading.</summary>
    public string? TimestepSpacing { get; init; }

    /// <summary>Added to leading steps. Default: 0.</summary>
    public int StepsOffset { get; init; }

    /// <summary>The last step removes all noise. Default: the class's, mostly true.</summary>
    public bool? SetAlphaToOne { get; init; }

    /// <summary>Clipping of the predicted sample in diffusers; kept, not applied here. Default: not said.</summary>
    public bool? ClipSample { get; init; }

    /// <summary>Dynamic thresholding, which is not supported. Default: false.</summary>
    public bool Thresholding { get; init; }

    /// <summary>Rescaling to zero terminal signal, which is not supported. Default: false.</summary>
    public bool RescaleBetasZeroSnr { get; init; }

    /// <summary>What the network predicts.</summary>
    [JsonIgnore]
    public Prediction Prediction => PredictionType switch
    {
        "epsilon" => Prediction.Epsilon,
        "v_prediction" => Prediction.Velocity,
        "sample" => Prediction.Sample,
        _ => throw new ModelConfigException($"prediction_type '{PredictionType}' is not known. Known: epsilon, v_prediction, sample."),
    };

    /// <summary>Reads the file.</summary>
    /// <exception cref="ModelConfigException">The file is missing, malformed, or asks for what is not supported.</exception>
    public static SchedulerConfig Read(string path)
    {
        var config = ModelConfig.Read<SchedulerConfig>(path);
        if (config.Thresholding || config.RescaleBetasZeroSnr)
            throw new ModelConfigException($"{path}: {(config.Thresholding ? "thresholding" : "rescale_betas_zero_snr")} is true, which is not supported. Set it to false if the model allows.");
        if (config.ClassName.StartsWith("Flow", StringComparison.Ordinal))
            throw new ModelConfigException($"{path}: {config.ClassName} is a flow-matching scheduler; this file format is read for noise schedules only.");
        _ = (config.Prediction, config.Spacing(), config.Schedule());
        return config;
    }

    /// <summary>Writes the file.</summary>
    public void Write(string path) => ModelConfig.Write(path, this);

    /// <summary>The noise schedule.</summary>
    public DiscreteVp Schedule() => TrainedBetas is { Count: > 0 } betas
        ? new DiscreteVp([.. betas])
        : DiscreteVp.Create(
            BetaSchedule switch
            {
                "linear" => Schedules.BetaSchedule.Linear,
                "scaled_linear" => Schedules.BetaSchedule.ScaledLinear,
                "squaredcos_cap_v2" => Schedules.BetaSchedule.SquaredCosine,
                _ => throw new ModelConfigException($"beta_schedule '{BetaSchedule}' is not known. Known: linear, scaled_linear, squaredcos_cap_v2."),
            },
            BetaStart, BetaEnd, NumTrainTimesteps);

    /// <summary>The steps that the file asks for.</summary>
    /// <param name="steps">Number of steps.</param>
    public TimeGrid Grid(int steps) => TimeGrid.Diffusers(Schedule(), Spacing(), steps, StepsOffset, SetAlphaToOne ?? ClassName != "PNDMScheduler");

    private GridKind Spacing() => TimestepSpacing switch
    {
        "leading" => GridKind.Leading,
        "trailing" => GridKind.Trailing,
        "linspace" => GridKind.Linspace,
        null => ClassName is "DDIMScheduler" or "DDPMScheduler" or "PNDMScheduler" ? GridKind.Leading : GridKind.Linspace,
        _ => throw new ModelConfigException($"timestep_spacing '{TimestepSpacing}' is not known. Known: leading, trailing, linspace."),
    };
}
