using System.Text.Json;
using System.Text.Json.Serialization;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Models;

/// <summary>A diffusers <c>scheduler_config.json</c>: the noise schedule a network was trained on, and how its steps are spaced.</summary>
/// <remarks>
/// Missing fields have the defaults of the class that <c>_class_name</c> names. Fields that ask for steps that are not here are errors of <see cref="Grid"/> and
/// <see cref="Sampler"/>, by name; the schedule itself can be used with another sampler then. Clipping of the predicted sample is left out: a clipped pixel has no gradient.
/// </remarks>
public sealed partial record SchedulerConfig
{
    /// <summary>The diffusers class, such as <c>DDIMScheduler</c>.</summary>
    [JsonPropertyName("_class_name"), JsonPropertyOrder(-1)]
    public string ClassName { get; init; } = "DDIMScheduler";

    /// <summary>Number of steps the network was trained on. Default: 1000.</summary>
    public int NumTrainTimesteps { get; init; } = 1000;

    /// <summary>First β, the variance that trained step 0 adds, in (0, 1). Default: 1e-4.</summary>
    public double BetaStart { get; init; } = 1e-4;

    /// <summary>Last β, the variance that trained step N - 1 adds, in (0, 1). Default: 0.02.</summary>
    public double BetaEnd { get; init; } = 0.02;

    /// <summary><c>linear</c>, <c>scaled_linear</c> or <c>squaredcos_cap_v2</c>. Default: linear.</summary>
    public string BetaSchedule { get; init; } = "linear";

    /// <summary>The βs themselves, which win over the three fields above. Default: none.</summary>
    public IReadOnlyList<double>? TrainedBetas { get; init; }

    /// <summary><c>epsilon</c>, <c>v_prediction</c>, <c>sample</c> or <c>flow_prediction</c>. Default: epsilon, but flow_prediction for flow matching.</summary>
    public string PredictionType { get; init; } = "epsilon";

    /// <summary><c>leading</c>, <c>trailing</c> or <c>linspace</c>. Default: the class's, mostly leading.</summary>
    public string? TimestepSpacing { get; init; }

    /// <summary>Added to leading steps. Default: 0.</summary>
    public int StepsOffset { get; init; }

    /// <summary>The last step removes all noise. Default: the class's, mostly true.</summary>
    public bool? SetAlphaToOne { get; init; }

    /// <summary><c>zero</c> or <c>sigma_min</c>: where schedulers of the DPM-Solver family end. Default: zero.</summary>
    public string? FinalSigmasType { get; init; }

    /// <summary>Noise levels spread as in Karras et al. (2022), for classes that have it. Default: false.</summary>
    public bool UseKarrasSigmas { get; init; }

    /// <summary>Order of DPM-Solver, DEIS or UniPC. Default: 2.</summary>
    public int SolverOrder { get; init; } = 2;

    /// <summary><c>dpmsolver++</c>, <c>dpmsolver</c>, <c>sde-dpmsolver++</c>, or <c>deis</c>. Default: the class's.</summary>
    public string? AlgorithmType { get; init; }

    /// <summary><c>midpoint</c> or <c>heun</c> for DPM-Solver, <c>bh1</c> or <c>bh2</c> for UniPC. Default: midpoint, bh2.</summary>
    public string? SolverType { get; init; }

    /// <summary>Whether short runs of DPM-Solver, DEIS and UniPC end with lower orders. Default: true, but false for the singlestep DPM-Solver.</summary>
    public bool LowerOrderFinal { get; init; } = true;

    /// <summary>Whether the last step of the multistep DPM-Solver is Euler's, however long the run. Default: false.</summary>
    public bool EulerAtFinal { get; init; }

    /// <summary>Trained steps of which log(alpha / sigma) is less than this are not begun from, in DPM-Solver. Default: minus infinity, all may be.</summary>
    [JsonNumberHandling(JsonNumberHandling.AllowNamedFloatingPointLiterals)]
    public double LambdaMinClipped { get; init; } = double.NegativeInfinity;

    /// <summary>PNDM: no Runge–Kutta steps at the start. Read is true alone, which is not the class's default. Default: false.</summary>
    public bool SkipPrkSteps { get; init; }

    /// <summary><c>fixed_small</c> or <c>fixed_small_log</c>, for DDPM; others are not supported. Default: fixed_small.</summary>
    public string? VarianceType { get; init; }

    /// <summary>UniPC in x0, not in eps. Default: true.</summary>
    public bool PredictX0 { get; init; } = true;

    /// <summary>Steps whose end UniPC does not correct. Default: none.</summary>
    public IReadOnlyList<int>? DisableCorrector { get; init; }

    /// <summary>Another scheduler in place of UniPC's predictor, which is not supported. Default: none.</summary>
    public JsonElement? SolverP { get; init; }

    /// <summary><c>linear</c> or <c>log_linear</c>: how Euler's noise levels lie between trained ones. Default: linear.</summary>
    public string? InterpolationType { get; init; }

    /// <summary><c>discrete</c>, or <c>continuous</c> for a network of v that Euler tells a quarter of log sigma. Default: discrete.</summary>
    public string? TimestepType { get; init; }

    /// <summary>Least level of Karras' in Euler and UniPC. Default: that of the spacing, or of the schedule.</summary>
    public double? SigmaMin { get; init; }

    /// <summary>Largest level of Karras' in Euler and UniPC. Default: that of the spacing, or of the schedule.</summary>
    public double? SigmaMax { get; init; }

    /// <summary>Clipping of the predicted sample in diffusers; kept, not applied here. Default: not said.</summary>
    public bool? ClipSample { get; init; }

    /// <summary>Dynamic thresholding, which is not supported. Default: false.</summary>
    public bool Thresholding { get; init; }

    /// <summary>The βs are rescaled so that the last trained step has no signal: <see cref="DiscreteVp.WithoutTerminalSignal"/>. Default: false.</summary>
    public bool RescaleBetasZeroSnr { get; init; }

    /// <summary>What the network predicts.</summary>
    /// <exception cref="ModelConfigException"><see cref="PredictionType"/> is not known.</exception>
    [JsonIgnore]
    public Prediction Prediction => PredictionType switch
    {
        _ when ClassName is FlowEuler or FlowHeun => Prediction.Flow,
        "flow_prediction" => Prediction.Flow,
        "epsilon" => Prediction.Epsilon,
        "v_prediction" => Prediction.Velocity,
        "sample" => Prediction.Sample,
        _ => throw new ModelConfigException($"prediction_type '{PredictionType}' is not known. Known: epsilon, v_prediction, sample, flow_prediction."),
    };

    /// <summary>The noise schedule: <see cref="DiscreteVp"/>, or <see cref="FlowMatching"/>.</summary>
    /// <exception cref="ModelConfigException"><see cref="BetaSchedule"/> is not known.</exception>
    /// <exception cref="ArgumentException">A β lies outside (0, 1).</exception>
    public NoiseSchedule Schedule() => IsFlow ? new FlowMatching(NumTrainTimesteps) : VariancePreserving();

    private DiscreteVp VariancePreserving()
    {
        var schedule = TrainedBetas is { Count: > 0 } betas
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
        // Where σ/α is interpolated or has a logarithm, diffusers keeps float16's least number of signal.
        return RescaleBetasZeroSnr ? schedule.WithoutTerminalSignal(TimeGrid.FamilyOf(ClassName) == SchedulerFamily.OneStep ? 0 : Math.Pow(2, -24)) : schedule;
    }

    /// <summary>What standard normal noise is multiplied by to give x_T, so that the run is diffusers'.</summary>
    /// <remarks>1, but for the family of Euler and Heun with steps that are not leading: diffusers starts those at sigma / alpha times the noise, which lacks the image's part.</remarks>
    /// <param name="grid">The steps, from <see cref="Grid"/>.</param>
    public double NoiseScale(TimeGrid grid) =>
        TimeGrid.FamilyOf(ClassName) == SchedulerFamily.Interpolated && (TimestepSpacing ?? "linspace") != "leading" ? grid.Start.Level.Sigma : 1;
}
