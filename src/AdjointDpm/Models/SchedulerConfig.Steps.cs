using System.Text.Json.Serialization;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;

namespace AdjointDpm.Models;

public sealed partial record SchedulerConfig
{
    /// <summary>The steps that the file's scheduler would take.</summary>
    /// <param name="steps">Number of steps, from 1 to <see cref="NumTrainTimesteps"/>.</param>
    /// <param name="imageTokens">Number of tokens that the network cuts the image into; read if <see cref="UseDynamicShifting"/>.</param>
    /// <exception cref="ModelConfigException">A field asks for steps that are not supported, or <paramref name="imageTokens"/> is needed and was not given.</exception>
    /// <exception cref="ArgumentOutOfRangeException">Too many steps, or an offset that leaves the schedule.</exception>
    public TimeGrid Grid(int steps, int? imageTokens = null)
    {
        var schedule = Schedule();
        if (schedule is FlowMatching flow)
            return FlowGrid(flow, steps, imageTokens);
        return TimeGrid.Diffusers((DiscreteVp)schedule, new()
        {
            Kind = Spacing(),
            Within = Usual(),
            Steps = steps,
            Offset = StepsOffset,
            Family = TimeGrid.FamilyOf(ClassName),
            EndWithoutNoise = EndsWithoutNoise,
            MinimalLambda = ClassName.StartsWith("DPMSolver", StringComparison.Ordinal) ? LambdaMinClipped : double.NegativeInfinity,
            IsGeometric = ClassName == Euler && Known("interpolation_type", InterpolationType, "linear", "log_linear") == "log_linear",
            // A network of eps is told trained steps all the same.
            TellsLogSigma = ClassName == Euler && PredictionType == "v_prediction" && Known("timestep_type", TimestepType, "discrete", "continuous") == "continuous",
            LeastRho = ClassName is Euler or UniPc ? SigmaMin : null,
            MostRho = ClassName is Euler or UniPc ? SigmaMax : null,
            RoundsTimes = ClassName == "KDPM2DiscreteScheduler" || (TimeGrid.FamilyOf(ClassName) == SchedulerFamily.Multistep && !(ClassName == "DPMSolverMultistepScheduler" && BetaSchedule == "squaredcos_cap_v2")),
        });
    }

    /// <summary>The sampler that the file's scheduler is.</summary>
    /// <exception cref="ModelConfigException">There is none here for this class, or a field asks for what is not supported.</exception>
    public Sampler Sampler() => (ClassName, AlgorithmType) switch
    {
        ("DDIMScheduler" or Euler, _) => Samplers.Sampler.Ddim,
        ("DDPMScheduler", _) when VarianceType is not (null or "fixed_small" or "fixed_small_log") => throw NotHere("variance_type", $"'{VarianceType}'", "'fixed_small'"),
        ("DDPMScheduler" or Ancestral, _) => Samplers.Sampler.Ddpm,
        (FlowEuler, _) => Samplers.Sampler.FlowEuler,
        (FlowHeun, _) => new RungeKutta("flow-heun", ButcherTableau.Heun, Coordinates.Flow) { EulerToNoNoise = true },
        ("PNDMScheduler", _) when !SkipPrkSteps => throw NotHere("skip_prk_steps", "false", "true"),
        ("PNDMScheduler", _) => Samplers.Sampler.Plms,
        ("HeunDiscreteScheduler", _) => Samplers.Sampler.Heun,
        ("KDPM2DiscreteScheduler", _) => Samplers.Sampler.Dpm2,
        ("DPMSolverMultistepScheduler" or Singlestep, _) when VarianceType is not null => throw NotHere("variance_type", $"'{VarianceType}'", "null"),
        ("DPMSolverMultistepScheduler", "sde-dpmsolver++") when EulerAtFinal && !EndsWithoutNoise => throw NotHere("euler_at_final", "true", "false"),
        ("DPMSolverMultistepScheduler", "sde-dpmsolver++") => SolverOrder == 1 ? Samplers.Sampler.StochasticDpmSolver1 : Samplers.Sampler.StochasticDpmSolver2M,
        ("DPMSolverMultistepScheduler", "dpmsolver") => Multistep(Prediction.Epsilon),
        ("DPMSolverMultistepScheduler", null or "dpmsolver++") => Multistep(Prediction.Sample),
        // To no noise the last step is of first order in any case.
        (Singlestep, _) when LowerOrderFinal && !EndsWithoutNoise => throw NotHere("lower_order_final", "true with final_sigmas_type 'sigma_min'", "false"),
        (Singlestep, "dpmsolver") when SolverOrder == 2 => Samplers.Sampler.DpmSolver2SEpsilon,
        (Singlestep, null or "dpmsolver++") when SolverOrder == 2 => Samplers.Sampler.DpmSolver2S,
        ("DEISMultistepScheduler", _) when SolverOrder is >= 1 and <= 3 => new Deis(SolverOrder, LowerOrderFinal),
        (UniPc, _) when SolverP is not null => throw NotHere("solver_p", "another scheduler", "null"),
        (UniPc, _) => new UniPc(SolverOrder, PredictX0 ? Prediction.Sample : Prediction.Epsilon)
        {
            Function = SolverType == "bh1" ? UniPcFunction.Step : UniPcFunction.ExponentialMinusOne,
            LowerOrderFinal = LowerOrderFinal,
            Uncorrected = DisableCorrector ?? [],
        },
        _ => throw new ModelConfigException($"There is no sampler here for {ClassName}{(AlgorithmType is null ? "" : $" with algorithm_type '{AlgorithmType}'")} of solver_order {SolverOrder}. Choose one by name: {string.Join(", ", Samplers.Sampler.Known.Select(s => s.Name))}."),
    };

    /// <summary>Whether diffusers clips the predicted sample with this configuration, which is left out here.</summary>
    [JsonIgnore]
    public bool Clips => ClassName is "DDIMScheduler" or "DDPMScheduler" ? ClipSample ?? true : ClassName == "HeunDiscreteScheduler" && ClipSample == true;

    private const string Euler = "EulerDiscreteScheduler", Ancestral = "EulerAncestralDiscreteScheduler", Singlestep = "DPMSolverSinglestepScheduler", UniPc = "UniPCMultistepScheduler";

    private bool EndsWithoutNoise => (TimeGrid.FamilyOf(ClassName), ClassName) switch
    {
        // The only one of its family that always stops at the first trained step.
        (_, "DEISMultistepScheduler") => false,
        (SchedulerFamily.Multistep, _) or (_, Euler) => Known("final_sigmas_type", FinalSigmasType, "zero", "sigma_min") != "sigma_min",
        (SchedulerFamily.Interpolated, _) => true,
        _ => SetAlphaToOne ?? ClassName != "PNDMScheduler",
    };

    private DpmSolver Multistep(Prediction form) => new(SolverOrder, form)
    {
        Correction = SolverType == "heun" ? DpmCorrection.Heun : DpmCorrection.Midpoint,
        LowerOrderFinal = LowerOrderFinal,
        EulerAtFinal = EulerAtFinal,
    };

    private GridKind Spacing()
    {
        var usual = Usual();
        return UseKarrasSigmas && TimeGrid.FamilyOf(ClassName) != SchedulerFamily.OneStep && ClassName != Ancestral ? GridKind.Karras : usual;
    }

    private GridKind Usual() => TimestepSpacing switch
    {
        // It has no such field.
        _ when ClassName == Singlestep => GridKind.Linspace,
        "leading" => GridKind.Leading,
        "trailing" => GridKind.Trailing,
        "linspace" => GridKind.Linspace,
        null => TimeGrid.FamilyOf(ClassName) == SchedulerFamily.OneStep ? GridKind.Leading : GridKind.Linspace,
        _ => throw new ModelConfigException($"timestep_spacing '{TimestepSpacing}' is not known. Known: leading, trailing, linspace."),
    };

    private static string? Known(string field, string? value, params string[] known) => value is null || known.Contains(value) ? value
        : throw new ModelConfigException($"{field} '{value}' is not known. Known: {string.Join(", ", known)}.");

    private ModelConfigException NotHere(string field, string value, string instead) =>
        new($"{field} of {ClassName} is {value}, which is not supported. Set it to {instead} if the model allows, or choose a sampler by name: {string.Join(", ", Samplers.Sampler.Known.Select(s => s.Name))}.");
}
