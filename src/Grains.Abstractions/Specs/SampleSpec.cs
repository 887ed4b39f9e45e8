using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Specs;

/// <summary>The sampler.</summary>
public sealed record SampleSpec
{
    /// <summary>Sampler. Default: ddim.</summary>
    public SolverName Solver { get; init; } = SolverName.Ddim;

    /// <summary>Steps of the sampler. Default: 20.</summary>
    [Range(1, 1000)]
    public int Steps { get; init; } = 20;

    /// <summary>Grid of noise levels. Default: logsnr.</summary>
    public GridName Grid { get; init; } = GridName.LogSnr;

    /// <summary>Relative tolerance of an adaptive sampler. Default: 1e-4.</summary>
    [Range(1e-12, 1.0)]
    public double? Rtol { get; init; }

    /// <summary>Absolute tolerance of an adaptive sampler, in units of x / α. Default: 1e-4.</summary>
    [Range(1e-12, 1.0)]
    public double? Atol { get; init; }

    /// <summary>Share of fresh noise of ddim, from 0 (none) to 1 (ddpm). Default: 0.</summary>
    [Range(0.0, 1.0)]
    public double? Eta { get; init; }

    /// <summary>Classifier-free guidance scale; 1 is the conditional model alone. Default: 1.</summary>
    [Range(0.0, 100.0)]
    public double Guidance { get; init; } = 1.0;

    /// <summary>Classes to draw from, for class-conditional models; with prompts, the class that a classifier should see in each prompt's pictures. Default: all of the model's, with prompts none.</summary>
    [MinLength(1)]
    public IReadOnlyList<int>? Classes { get; init; }

    /// <summary>Texts to draw, for models that read text; samples take them in turn. Required there.</summary>
    [MinLength(1)]
    public IReadOnlyList<string>? Prompts { get; init; }

    /// <summary>A file of texts to draw in place of <c>prompts</c>: txt, csv, tsv, jsonl, json, yaml or parquet. Read when the spec is: its texts, and its classes where it has them, become part of the spec. Default: none.</summary>
    [ExistingPath(ExistingPathKind.File)]
    public string? PromptsFile { get; init; }

    /// <summary>Text to guide away from. Default: what the model takes for no text.</summary>
    public string? NegativePrompt { get; init; }

    /// <summary>Height of pictures in pixels, for models that read text. Default: what the model was trained on.</summary>
    [Range(8, 16_384)]
    public int? Height { get; init; }

    /// <summary>Width of pictures in pixels, likewise.</summary>
    [Range(8, 16_384)]
    public int? Width { get; init; }

    /// <summary>Guidance by the losses while sampling, without training: symplectic adjoint guidance; for train.target none.</summary>
    public LookAheadSpec? LookAhead { get; init; }
}

/// <summary>Training-free guidance by looking ahead (Pan et al. 2023, arXiv:2312.12030): a few steps lead to a guess of the sample, and the gradient of the losses on it says where the state must go.</summary>
public sealed record LookAheadSpec
{
    /// <summary>Steps ahead; 1 is the guess of universal guidance and FreeDoM. Default: 4.</summary>
    [Range(1, 1000)]
    public int Steps { get; init; } = 4;

    /// <summary>How far a state moves, in units of the deviation of the noise that a step takes away. Default: 0.2.</summary>
    [Range(0.0, 1e6)]
    public double Strength { get; init; } = 0.2;

    /// <summary>Whether each sample's gradient is scaled to a root mean square of one. Default: true.</summary>
    public bool Normalize { get; init; } = true;

    /// <summary>First step that is guided, counted from 0 at the noise. Default: 0.</summary>
    [Range(0, 999)]
    public int From { get; init; }

    /// <summary>Step before which guidance ends. Default: the end.</summary>
    [Range(1, 1000)]
    public int? Until { get; init; }

    /// <summary>How often a guided step is taken back by fresh noise and taken again. Default: 0.</summary>
    [Range(0, 100)]
    public int Repeats { get; init; }
}

/// <summary>Samplers a spec may name: those of the library, by its names.</summary>
public enum SolverName
{
    /// <summary>DDIM, the Euler method in ρ = σ/α.</summary>
    [JsonStringEnumMemberName("ddim")]
    Ddim,

    /// <summary>Heun's method in ρ, second order.</summary>
    [JsonStringEnumMemberName("heun")]
    Heun,

    /// <summary>The midpoint method in ρ, second order.</summary>
    [JsonStringEnumMemberName("midpoint")]
    Midpoint,

    /// <summary>The classical Runge–Kutta method in ρ, fourth order.</summary>
    [JsonStringEnumMemberName("rk4")]
    Rk4,

    /// <summary>Kutta's 3/8 rule in ρ, fourth order.</summary>
    [JsonStringEnumMemberName("rk4-38")]
    ThreeEighths,

    /// <summary>Euler's method on dx/dt = ε − x₀.</summary>
    [JsonStringEnumMemberName("flow-euler")]
    FlowEuler,

    /// <summary>Heun's method on dx/dt = ε − x₀.</summary>
    [JsonStringEnumMemberName("flow-heun")]
    FlowHeun,

    /// <summary>The midpoint method on dx/dt = ε − x₀.</summary>
    [JsonStringEnumMemberName("flow-midpoint")]
    FlowMidpoint,

    /// <summary>The midpoint method with a geometric midpoint, second order.</summary>
    [JsonStringEnumMemberName("dpm2")]
    Dpm2,

    /// <summary>Adams–Bashforth of order 2.</summary>
    [JsonStringEnumMemberName("ab2")]
    Adams2,

    /// <summary>Adams–Bashforth of order 3.</summary>
    [JsonStringEnumMemberName("ab3")]
    Adams3,

    /// <summary>Adams–Bashforth of order 4.</summary>
    [JsonStringEnumMemberName("ab4")]
    Adams4,

    /// <summary>Stable Diffusion 1's default (PNDM without its Runge–Kutta start).</summary>
    [JsonStringEnumMemberName("plms")]
    Plms,

    /// <summary>DPM-Solver++ 2M.</summary>
    [JsonStringEnumMemberName("dpm++2m")]
    DpmSolver2M,

    /// <summary>DPM-Solver++ 3M as published.</summary>
    [JsonStringEnumMemberName("dpm++3m")]
    DpmSolver3M,

    /// <summary>DPM-Solver++ 3M of true third order.</summary>
    [JsonStringEnumMemberName("dpm++3m-exact")]
    DpmSolver3MExact,

    /// <summary>DPM-Solver++ 2S.</summary>
    [JsonStringEnumMemberName("dpm++2s")]
    DpmSolver2S,

    /// <summary>DPM-Solver 2M in ε.</summary>
    [JsonStringEnumMemberName("dpm-2m")]
    DpmSolver2MEpsilon,

    /// <summary>DPM-Solver 2S in ε.</summary>
    [JsonStringEnumMemberName("dpm-2s")]
    DpmSolver2SEpsilon,

    /// <summary>DEIS with two noises.</summary>
    [JsonStringEnumMemberName("deis2")]
    Deis2,

    /// <summary>DEIS with three noises.</summary>
    [JsonStringEnumMemberName("deis3")]
    Deis3,

    /// <summary>UniPC of order 2.</summary>
    [JsonStringEnumMemberName("unipc2")]
    UniPc2,

    /// <summary>UniPC of order 2 with B(h) = h.</summary>
    [JsonStringEnumMemberName("unipc2-bh1")]
    UniPc2Step,

    /// <summary>UniPC of order 3.</summary>
    [JsonStringEnumMemberName("unipc3")]
    UniPc3,

    /// <summary>Ancestral sampling: DDIM with η = 1. Stochastic.</summary>
    [JsonStringEnumMemberName("ddpm")]
    Ddpm,

    /// <summary>SDE-DPM-Solver++ of order 1. Stochastic.</summary>
    [JsonStringEnumMemberName("sde-dpm++1")]
    StochasticDpmSolver1,

    /// <summary>SDE-DPM-Solver++ 2M. Stochastic.</summary>
    [JsonStringEnumMemberName("sde-dpm++2m")]
    StochasticDpmSolver2M,

    /// <summary>Euler–Maruyama on the reverse equation. Stochastic.</summary>
    [JsonStringEnumMemberName("euler-maruyama")]
    EulerMaruyama,

    /// <summary>Heun's method with churn, of Karras et al. Stochastic.</summary>
    [JsonStringEnumMemberName("edm")]
    Edm,

    /// <summary>Bogacki–Shampine 3(2) with step control; 'steps' are points that it lands on.</summary>
    [JsonStringEnumMemberName("bosh3")]
    Bosh3,

    /// <summary>Dormand–Prince 5(4) with step control.</summary>
    [JsonStringEnumMemberName("dopri5")]
    Dopri5,

    /// <summary>Tsitouras 5(4) with step control.</summary>
    [JsonStringEnumMemberName("tsit5")]
    Tsit5,

    /// <summary>Dormand–Prince 8(7) with step control.</summary>
    [JsonStringEnumMemberName("dopri8")]
    Dopri8,

    /// <summary>Reversible midpoint pairs, whose gradient needs no stored states.</summary>
    [JsonStringEnumMemberName("reversible-midpoint")]
    ReversibleMidpoint,

    /// <summary>Reversible Heun pairs.</summary>
    [JsonStringEnumMemberName("reversible-heun")]
    ReversibleHeun,

    /// <summary>Reversible Runge–Kutta pairs, fourth order.</summary>
    [JsonStringEnumMemberName("reversible-rk4")]
    ReversibleRk4,
}

/// <summary>Grids of noise levels a spec may name.</summary>
public enum GridName
{
    /// <summary>Uniform in λ = log(α/σ).</summary>
    [JsonStringEnumMemberName("logsnr")]
    LogSnr,

    /// <summary>Uniform in the model's time.</summary>
    Time,

    /// <summary>Uniform in ρ^(1/7): Karras et al.</summary>
    Karras,

    /// <summary>diffusers' "leading": trained steps 0, k, 2k, …; ends without noise.</summary>
    Leading,

    /// <summary>diffusers' "trailing": trained steps N−1, N−1−k, …; ends without noise.</summary>
    Trailing,

    /// <summary>diffusers' "linspace": rounded trained steps from N−1 to 0; ends without noise.</summary>
    Linspace,
}
