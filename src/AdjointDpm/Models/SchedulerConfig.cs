using System.Text.Json.Serialization;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Models;

/// <summary>A diffusers <c>scheduler_config.json</c>: the noise schedule a network was trained on, and how its steps are spaced.</summary>
/// <remarks>Missing fields have the defaults of the class that <c>_class_name</c> names. Clipping of the predicted sample is left out: a clipped pixel has no gradient.</remarks>
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

    /// <summary>Whether short runs of DPM-Solver, DEIS and UniPC end with lower orders. Default: true.</summary>
    public bool LowerOrderFinal { get; init; } = true;

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

    /// <summary>Reads the file.</summary>
    /// <exception cref="ModelConfigException">The file is missing, malformed, or asks for what is not supported.</exception>
    public static SchedulerConfig Read(string path)
    {
        var config = ModelConfig.Read<SchedulerConfig>(path);
        if (config.Unsupported() is { } field)
            throw new ModelConfigException($"{path}: {field} is true, which is not supported. Set it to false if the model allows.");
        if (config.ClassName.StartsWith("Flow", StringComparison.Ordinal) && !config.IsFlow)
            throw new ModelConfigException($"{path}: {config.ClassName} is not supported. Flow-matching schedulers that are: {FlowEuler}, {FlowHeun}, and DPM-Solver, DEIS and UniPC with use_flow_sigmas.");
        _ = (config.Prediction, config.Spacing(), config.Schedule());
        return config;
    }

    /// <summary>Writes the file.</summary>
    public void Write(string path) => ModelConfig.Write(path, this);

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

    /// <summary>The steps that the file's scheduler would take.</summary>
    /// <param name="steps">Number of steps, from 1 to <see cref="NumTrainTimesteps"/>.</param>
    /// <param name="imageTokens">Number of tokens that the network cuts the image into; read if <see cref="UseDynamicShifting"/>.</param>
    /// <exception cref="ModelConfigException"><see cref="TimestepSpacing"/> is not known, or <paramref name="imageTokens"/> is needed and was not given.</exception>
    /// <exception cref="ArgumentOutOfRangeException">Too many steps, or an offset that leaves the schedule.</exception>
    public TimeGrid Grid(int steps, int? imageTokens = null)
    {
        var schedule = Schedule();
        if (schedule is FlowMatching flow)
            return FlowGrid(flow, steps, imageTokens);
        var family = TimeGrid.FamilyOf(ClassName);
        var endWithoutNoise = family switch
        {
            SchedulerFamily.Multistep => FinalSigmasType != "sigma_min",
            SchedulerFamily.Interpolated => true,
            _ => SetAlphaToOne ?? ClassName != "PNDMScheduler",
        };
        return TimeGrid.Diffusers((DiscreteVp)schedule, Spacing(), steps, StepsOffset, endWithoutNoise, family);
    }

    /// <summary>What standard normal noise is multiplied by to give x_T, so that the run is diffusers'.</summary>
    /// <remarks>1, but for the family of Euler and Heun with steps that are not leading: diffusers starts those at sigma / alpha times the noise, which lacks the image's part.</remarks>
    /// <param name="grid">The steps, from <see cref="Grid"/>.</param>
    public double NoiseScale(TimeGrid grid) =>
        TimeGrid.FamilyOf(ClassName) == SchedulerFamily.Interpolated && (TimestepSpacing ?? "linspace") != "leading" ? grid.Start.Level.Sigma : 1;

    /// <summary>The sampler that the file's scheduler is.</summary>
    /// <exception cref="ModelConfigException">There is none here for this class.</exception>
    public Sampler Sampler() => (ClassName, AlgorithmType) switch
    {
        ("DDIMScheduler" or "EulerDiscreteScheduler", _) => Samplers.Sampler.Ddim,
        ("DDPMScheduler" or "EulerAncestralDiscreteScheduler", _) => Samplers.Sampler.Ddpm,
        (FlowEuler, _) => Samplers.Sampler.FlowEuler,
        (FlowHeun, _) => new RungeKutta("flow-heun", ButcherTableau.Heun, Coordinates.Flow) { EulerToNoNoise = true },
        ("PNDMScheduler", _) => Samplers.Sampler.Plms,
        ("HeunDiscreteScheduler", _) => Samplers.Sampler.Heun,
        ("KDPM2DiscreteScheduler", _) => Samplers.Sampler.Dpm2,
        ("DPMSolverMultistepScheduler", "sde-dpmsolver++") => SolverOrder == 1 ? Samplers.Sampler.StochasticDpmSolver1 : Samplers.Sampler.StochasticDpmSolver2M,
        ("DPMSolverMultistepScheduler", "dpmsolver") => Multistep(Prediction.Epsilon),
        ("DPMSolverMultistepScheduler", null or "dpmsolver++") => Multistep(Prediction.Sample),
        ("DPMSolverSinglestepScheduler", "dpmsolver") when SolverOrder == 2 => Samplers.Sampler.DpmSolver2SEpsilon,
        ("DPMSolverSinglestepScheduler", null or "dpmsolver++") when SolverOrder == 2 => Samplers.Sampler.DpmSolver2S,
        ("DEISMultistepScheduler", _) when SolverOrder is >= 1 and <= 3 => new Deis(SolverOrder, LowerOrderFinal),
        ("UniPCMultistepScheduler", _) => new UniPc(SolverOrder) { Function = SolverType == "bh1" ? UniPcFunction.Step : UniPcFunction.ExponentialMinusOne, LowerOrderFinal = LowerOrderFinal },
        _ => throw new ModelConfigException($"There is no sampler here for {ClassName}{(AlgorithmType is null ? "" : $" with algorithm_type '{AlgorithmType}'")} of solver_order {SolverOrder}. Choose one by name: {string.Join(", ", Samplers.Sampler.Known.Select(s => s.Name))}."),
    };

    private DpmSolver Multistep(Prediction form) => new(SolverOrder, form) { Correction = SolverType == "heun" ? DpmCorrection.Heun : DpmCorrection.Midpoint, LowerOrderFinal = LowerOrderFinal };

    private GridKind Spacing() => TimestepSpacing switch
    {
        _ when UseKarrasSigmas && TimeGrid.FamilyOf(ClassName) != SchedulerFamily.OneStep => GridKind.Karras,
        "leading" => GridKind.Leading,
        "trailing" => GridKind.Trailing,
        "linspace" => GridKind.Linspace,
        null => TimeGrid.FamilyOf(ClassName) == SchedulerFamily.OneStep ? GridKind.Leading : GridKind.Linspace,
        _ => throw new ModelConfigException($"timestep_spacing '{TimestepSpacing}' is not known. Known: leading, trailing, linspace."),
    };
}
