using System.Text.Json.Serialization;
using AdjointDpm.Schedules;

namespace AdjointDpm.Models;

public sealed partial record SchedulerConfig
{
    /// <summary>Flow matching: moves steps towards noise, σ s / (1 + (s − 1) σ); 3 in Stable Diffusion 3. Default: 1.</summary>
    public double? Shift { get; init; }

    /// <summary>The same under the name that DPM-Solver, DEIS and UniPC have for it. Default: 1.</summary>
    public double? FlowShift { get; init; }

    /// <summary>DPM-Solver, DEIS or UniPC on a flow-matching network. Default: false.</summary>
    public bool UseFlowSigmas { get; init; }

    /// <summary>The shift follows from the size of the image, linearly between <see cref="BaseShift"/> and <see cref="MaxShift"/>; as in FLUX. Default: false.</summary>
    public bool UseDynamicShifting { get; init; }

    /// <summary><c>exponential</c>: the shift is e to what the image's size gives; <c>linear</c>: it is that itself. Default: exponential.</summary>
    public string? TimeShiftType { get; init; }

    /// <summary>What an image of <see cref="BaseImageSeqLen"/> tokens gives. Default: 0.5.</summary>
    public double? BaseShift { get; init; }

    /// <summary>What an image of <see cref="MaxImageSeqLen"/> tokens gives. Default: 1.15.</summary>
    public double? MaxShift { get; init; }

    /// <summary>Default: 256.</summary>
    public int? BaseImageSeqLen { get; init; }

    /// <summary>Default: 4096.</summary>
    public int? MaxImageSeqLen { get; init; }

    /// <summary>The last σ before the end, to which all are stretched after the shift; as in LTX-Video. Default: as it comes.</summary>
    public double? ShiftTerminal { get; init; }

    /// <summary>Noise levels spread geometrically; read for flow matching only. Default: false.</summary>
    public bool UseExponentialSigmas { get; init; }

    /// <summary>Noise levels spread by a beta distribution, which is not supported. Default: false.</summary>
    public bool UseBetaSigmas { get; init; }

    /// <summary>Lu et al.'s (2022) spread of noise levels, which is not supported. Default: false.</summary>
    public bool UseLuLambdas { get; init; }

    /// <summary>σ from 0 to 1, which is not supported. Default: false.</summary>
    public bool InvertSigmas { get; init; }

    /// <summary>Noise drawn anew at each flow-matching step, which is not supported. Default: false.</summary>
    public bool StochasticSampling { get; init; }

    /// <summary>Whether the network was trained by flow matching: x = (1 − σ) x₀ + σ ε, told σ times <see cref="NumTrainTimesteps"/>.</summary>
    [JsonIgnore]
    public bool IsFlow => UseFlowSigmas || ClassName is FlowEuler or FlowHeun;

    private const string FlowEuler = "FlowMatchEulerDiscreteScheduler", FlowHeun = "FlowMatchHeunDiscreteScheduler";

    // What asks for steps that are not here, by the name of the field.
    private string? Unsupported() =>
        Thresholding ? "thresholding" : UseBetaSigmas ? "use_beta_sigmas" : UseLuLambdas ? "use_lu_lambdas" : InvertSigmas ? "invert_sigmas" : StochasticSampling ? "stochastic_sampling"
        : UseExponentialSigmas && !IsFlow ? "use_exponential_sigmas" : null;

    // set_timesteps of the two families, whose first σ are (1 … 1/N, shifted once already) and (1 … 1/N, the last left out).
    private TimeGrid FlowGrid(FlowMatching schedule, int steps, int? imageTokens)
    {
        if (steps < 1)
            throw new ArgumentOutOfRangeException(nameof(steps), steps, $"A grid needs at least one step, got {steps}.");
        var shift = UseDynamicShifting ? DynamicShift(imageTokens) : Shift ?? FlowShift ?? 1;
        double Shifted(double sigma) => shift * sigma / (1 + ((shift - 1) * sigma));
        var least = 1.0 / NumTrainTimesteps;
        double[] sigmas = ClassName switch
        {
            FlowEuler or FlowHeun => Spread(1, UseDynamicShifting ? least : Shifted(least), steps),
            "UniPCMultistepScheduler" => Spread(1, least, steps + 1)[..^1],
            _ => Spread(1 - least, 0, steps + 1)[..^1],
        };
        sigmas = [.. sigmas.Select(Shifted)];
        if (ShiftTerminal is { } terminal)
        {
            var stretch = (1 - sigmas[^1]) / (1 - terminal);
            sigmas = [.. sigmas.Select(s => 1 - ((1 - s) / stretch))];
        }

        if (UseKarrasSigmas)
            sigmas = [.. Spread(Math.Pow(sigmas[0], 1.0 / 7), Math.Pow(sigmas[^1], 1.0 / 7), steps).Select(s => Math.Pow(s, 7))];
        else if (UseExponentialSigmas)
            sigmas = [.. Spread(Math.Log(sigmas[0]), Math.Log(sigmas[^1]), steps).Select(Math.Exp)];
        // UniPC keeps a little signal at the start, and multistep schedulers tell the network whole times.
        if (ClassName == "UniPCMultistepScheduler" && sigmas[0] > 1 - 1e-6)
            sigmas[0] -= 1e-6;
        return new(schedule, [.. sigmas.Select(s => new GridPoint(UseFlowSigmas ? Math.Truncate(s * NumTrainTimesteps) : s * NumTrainTimesteps, new(1 - s, s))), new GridPoint(0, new(1, 0))]);

        static double[] Spread(double from, double to, int points) => [.. Enumerable.Range(0, points).Select(n => n == 0 ? from : from + ((to - from) * n / (points - 1)))];
    }

    private double DynamicShift(int? imageTokens)
    {
        if (imageTokens is not { } tokens)
            throw new ModelConfigException("use_dynamic_shifting is true, so the steps depend on the size of the image: say how many tokens it has, (height / 16) (width / 16) for FLUX and Stable Diffusion 3.");
        double low = BaseShift ?? 0.5, high = MaxShift ?? 1.15;
        int few = BaseImageSeqLen ?? 256, many = MaxImageSeqLen ?? 4096;
        var mu = low + ((high - low) * (tokens - few) / (many - few));
        return TimeShiftType switch
        {
            null or "exponential" => Math.Exp(mu),
            "linear" => mu,
            _ => throw new ModelConfigException($"time_shift_type '{TimeShiftType}' is not known. Known: exponential, linear."),
        };
    }
}
