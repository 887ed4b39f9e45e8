using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using AdjointDpm.Samplers;

namespace AdjointDpm.Schedules;

/// <summary>The parts of a diffusers <c>scheduler_config.json</c> that decide noise levels and times. Fields that are absent have diffusers' defaults.</summary>
public sealed partial record SchedulerConfig
{
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private static readonly string[] LinspaceClasses =
    [
        "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler",
        "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler",
        "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
    ];

    /// <summary>First beta. Default: 0.0001.</summary>
    public double BetaStart { get; init; } = 0.0001;

    /// <summary>Last beta. Default: 0.02.</summary>
    public double BetaEnd { get; init; } = 0.02;

    /// <summary>"linear", "scaled_linear" or "squaredcos_cap_v2". Default: "linear".</summary>
    public string BetaSchedule { get; init; } = "linear";

    /// <summary>Betas given one by one; they override the three fields above. Default: none.</summary>
    public IReadOnlyList<double>? TrainedBetas { get; init; }

    /// <summary>Number of trained steps. Default: 1000.</summary>
    public int NumTrainTimesteps { get; init; } = 1000;

    /// <summary>"epsilon", "v_prediction" or "sample". Default: "epsilon".</summary>
    public string PredictionType { get; init; } = "epsilon";

    /// <summary>"leading", "trailing" or "linspace". Default: the class's own, which is "linspace" for Euler, Heun and DPM-Solver schedulers and "leading" for others.</summary>
    public string? TimestepSpacing { get; init; }

    /// <summary>Added to leading time steps. Default: 0.</summary>
    public int StepsOffset { get; init; }

    /// <summary>Whether the last step removes all noise. Default: the class's own, which is false for PNDM and true for others.</summary>
    public bool? SetAlphaToOne { get; init; }

    /// <summary>Betas rescaled to end without signal; such schedules have no finite rho at their start. Default: false.</summary>
    public bool RescaleBetasZeroSnr { get; init; }

    /// <summary>Class of the scheduler that wrote the file; decides the defaults that differ between classes. Default: none.</summary>
    [JsonPropertyName("_class_name")]
    public string? ClassName { get; init; }

    /// <summary>What the network predicts.</summary>
    /// <exception cref="NotSupportedException">An unknown prediction type.</exception>
    [JsonIgnore]
    public Prediction Prediction => PredictionType switch
    {
        "epsilon" => Prediction.Epsilon,
        "v_prediction" => Prediction.Velocity,
        "sample" => Prediction.Sample,
        _ => throw new NotSupportedException($"prediction_type '{PredictionType}' is not known. Known: epsilon, v_prediction, sample."),
    };

    /// <summary>Reads a file.</summary>
    /// <param name="path">Path of a scheduler_config.json.</param>
    /// <exception cref="FormatException">The file is not such a configuration; the message names the file and the field.</exception>
    public static SchedulerConfig Read(string path)
    {
        try
        {
            return Parse(File.ReadAllText(path));
        }
        catch (JsonException e)
        {
            throw new FormatException($"{path} is no scheduler configuration: {e.Message}", e);
        }
    }

    /// <summary>Reads the text of a file.</summary>
    /// <exception cref="JsonException">The text is not such a configuration.</exception>
    public static SchedulerConfig Parse(string json)
        => JsonSerializer.Deserialize<SchedulerConfig>(PythonNumber().Replace(json, "null"), Json) ?? throw new JsonException("The text is 'null'.");

    /// <summary>The noise schedule that the network was trained with.</summary>
    /// <exception cref="NotSupportedException">A schedule that cannot be built from these fields.</exception>
    public DiscreteVp Schedule()
    {
        if (RescaleBetasZeroSnr)
            throw new NotSupportedException("rescale_betas_zero_snr ends without any signal: sigma / alpha is infinite there and no sampler here can start. Set it to false.");
        if (TrainedBetas is { } betas)
            return new([.. betas]);
        var kind = BetaSchedule switch
        {
            "linear" => Schedules.BetaSchedule.Linear,
            "scaled_linear" => Schedules.BetaSchedule.ScaledLinear,
            "squaredcos_cap_v2" => Schedules.BetaSchedule.SquaredCosine,
            _ => throw new NotSupportedException($"beta_schedule '{BetaSchedule}' is not known. Known: linear, scaled_linear, squaredcos_cap_v2."),
        };
        return DiscreteVp.Create(kind, BetaStart, BetaEnd, NumTrainTimesteps);
    }

    /// <summary>The grid that the diffusers scheduler would walk.</summary>
    /// <param name="steps">Number of steps.</param>
    /// <exception cref="NotSupportedException">An unknown spacing.</exception>
    public TimeGrid Grid(int steps) => TimeGrid.Diffusers(
        Schedule(),
        (TimestepSpacing ?? (LinspaceClasses.Contains(ClassName) ? "linspace" : "leading")) switch
        {
            "leading" => GridKind.Leading,
            "trailing" => GridKind.Trailing,
            "linspace" => GridKind.Linspace,
            _ => throw new NotSupportedException($"timestep_spacing '{TimestepSpacing}' is not known. Known: leading, trailing, linspace."),
        },
        steps,
        StepsOffset,
        SetAlphaToOne ?? ClassName != "PNDMScheduler");

    // Python writes infinities that are no JSON, such as DPM-Solver's "lambda_min_clipped": -Infinity. None matters here.
    [GeneratedRegex(@"(?<=[:\[,]\s*)(-?Infinity|NaN)(?=\s*[,}\]])")]
    private static partial Regex PythonNumber();
}
