using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Specs;

/// <summary>An experiment as a user writes it: one finetuning job and the search over it. Camel-case in YAML and JSON.</summary>
/// <remarks>Every value here is part of the run's identity: equal specs on an equal device kind give equal bits.</remarks>
public sealed record ExperimentSpec
{
    /// <summary>Model to start from.</summary>
    [Required]
    public required ModelSpec Model { get; init; }

    /// <summary>What receives gradients.</summary>
    public TrainSpec Train { get; init; } = new();

    /// <summary>How samples are drawn.</summary>
    public SampleSpec Sample { get; init; } = new();

    /// <summary>Differentiable metrics of the generated sample; their weighted sum is minimised.</summary>
    [Required, MinLength(1)]
    public required IReadOnlyList<LossSpec> Losses { get; init; }

    /// <summary>Judges that took no part in the training, evaluated before and after on fixed seeds.</summary>
    public HeldOutSpec? HeldOut { get; init; }

    /// <summary>How the gradient through the sampler is computed.</summary>
    public GradientSpec Gradient { get; init; } = new();

    /// <summary>Optimiser of the coordinator.</summary>
    public OptimizerSpec Optimizer { get; init; } = new();

    /// <summary>Steps, shards, batch and seed.</summary>
    public TrainingSpec Training { get; init; } = new();

    /// <summary>The number by which trials are ranked.</summary>
    public ObjectiveSpec Objective { get; init; } = new();

    /// <summary>Search algorithm over <see cref="Parameters"/>.</summary>
    public AlgorithmSpec Algorithm { get; init; } = new();

    /// <summary>Searched parameters: path into this spec, such as <c>optimizer.learningRate</c>, to its domain. Empty: one trial.</summary>
    public IReadOnlyDictionary<string, ParameterSpec> Parameters { get; init; } = new Dictionary<string, ParameterSpec>();

    /// <summary>Number of trials. For a grid, at most this many of its points. Default: the whole grid, or 1 without parameters.</summary>
    [Range(1, 100_000)]
    public int? MaxTrials { get; init; }

    /// <summary>Trials that run at the same time. Default: 1.</summary>
    [Range(1, 1024)]
    public int MaxConcurrentTrials { get; init; } = 1;

    /// <summary>What a worker gives to a shard.</summary>
    public ResourceSpec Resources { get; init; } = new();

    /// <summary>What happens when something fails.</summary>
    public FailureSpec Failure { get; init; } = new();

    /// <summary>How often parameters are kept, and pictures made.</summary>
    public CheckpointSpec Checkpoint { get; init; } = new();
}

/// <summary>The diffusion model.</summary>
public sealed record ModelSpec
{
    /// <summary>A diffusers folder (with <c>unet/</c> and <c>scheduler/</c>), relative to the spec file.</summary>
    [Required, ExistingPath(ExistingPathKind.Folder)]
    public required string Path { get; init; }

    /// <summary>Number format of the network's weights and activations. States of the sampler, adapters, and sums of gradients are float32 at least. Default: float32.</summary>
    public NumberFormat Dtype { get; init; } = NumberFormat.Float32;
}

/// <summary>Number formats of networks.</summary>
public enum NumberFormat
{
    /// <summary>IEEE single precision.</summary>
    Float32,

    /// <summary>IEEE double precision.</summary>
    Float64,

    /// <summary>Eight bits of exponent and seven of fraction: half the memory, the range of float32.</summary>
    [JsonStringEnumMemberName("bfloat16")]
    BFloat16,

    /// <summary>IEEE half precision; every cotangent is scaled to fit.</summary>
    Float16,
}

/// <summary>What is trained.</summary>
public sealed record TrainSpec
{
    /// <summary>All selected weights, or low-rank adapters beside them. Default: weights.</summary>
    public TrainTarget Target { get; init; } = TrainTarget.Weights;

    /// <summary>Glob patterns over parameter names (<c>*</c> matches any run of characters). Default: all.</summary>
    [MinLength(1)]
    public IReadOnlyList<string> Include { get; init; } = ["*"];

    /// <summary>Rank of the adapters, for <c>lora</c>. Default: 4.</summary>
    [Range(1, 1024)]
    public int Rank { get; init; } = 4;

    /// <summary>Scale of the adapters times their rank, for <c>lora</c>. Default: equal to the rank.</summary>
    [Range(0.0, 1e6)]
    public double? Alpha { get; init; }
}

/// <summary>Kinds of trained parameters.</summary>
public enum TrainTarget
{
    /// <summary>The network's own weights.</summary>
    Weights,

    /// <summary>Low-rank adapters on linear and convolution layers; the weights stay.</summary>
    Lora,
}

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

    /// <summary>Text to guide away from. Default: what the model takes for no text.</summary>
    public string? NegativePrompt { get; init; }

    /// <summary>Height of pictures in pixels, for models that read text. Default: what the model was trained on.</summary>
    [Range(8, 16_384)]
    public int? Height { get; init; }

    /// <summary>Width of pictures in pixels, likewise.</summary>
    [Range(8, 16_384)]
    public int? Width { get; init; }
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

/// <summary>One differentiable metric of the generated sample.</summary>
public sealed record LossSpec
{
    /// <summary>Which metric.</summary>
    [Required]
    public required LossName Name { get; init; }

    /// <summary>Factor in the weighted sum. Default: 1.</summary>
    [Range(-1e6, 1e6)]
    public double Weight { get; init; } = 1.0;

    /// <summary>Folder of the classifier whose features or logits are used, relative to the spec file.</summary>
    [ExistingPath(ExistingPathKind.Folder)]
    public string? Classifier { get; init; }

    /// <summary>Feature layers of the classifier, for gram-style. Default: all its feature layers.</summary>
    [MinLength(1)]
    public IReadOnlyList<string>? Layers { get; init; }

    /// <summary>Reference image, for gram-style and pixel-distance, relative to the spec file.</summary>
    [ExistingPath(ExistingPathKind.File)]
    public string? Reference { get; init; }
}

/// <summary>Losses a spec may name.</summary>
public enum LossName
{
    /// <summary>Squared distance of Gram matrices of classifier features to those of a reference image.</summary>
    GramStyle,

    /// <summary>Cross-entropy of a classifier against the class that the sample was asked to show.</summary>
    CrossEntropy,

    /// <summary>Mean squared distance in pixels to the frozen model's sample from the same noise, or to a reference image.</summary>
    PixelDistance,
}

/// <summary>Evaluation on seeds and judges that took no part.</summary>
public sealed record HeldOutSpec
{
    /// <summary>Folder of a classifier that no loss uses, relative to the spec file; gives accuracy before and after.</summary>
    [ExistingPath(ExistingPathKind.Folder)]
    public string? Classifier { get; init; }

    /// <summary>Samples per evaluation. Default: 40.</summary>
    [Range(1, 100_000)]
    public int Samples { get; init; } = 40;

    /// <summary>Seed of the evaluation's noise, never used in training. Default: 1000003.</summary>
    [Range(0, int.MaxValue)]
    public int Seed { get; init; } = 1_000_003;
}

/// <summary>Gradient method.</summary>
public sealed record GradientSpec
{
    /// <summary>Which gradient. Default: discrete.</summary>
    public GradientName Method { get; init; } = GradientName.Discrete;

    /// <summary>Most states stored at once, for checkpointed. Required there.</summary>
    [Range(1, 1_000_000)]
    public int? Slots { get; init; }

    /// <summary>Steps differentiated, for truncated. Required there.</summary>
    [Range(1, 1_000_000)]
    public int? Last { get; init; }

    /// <summary>Noisings of the finished sample, for low-variance. Default: 2.</summary>
    [Range(1, 1024)]
    public int? Noisings { get; init; }

    /// <summary>Order of adjoint-deis: 1, or 2 for the multistep method. Default: 1.</summary>
    [Range(1, 2)]
    public int? Order { get; init; }

    /// <summary>The proof of the gradient that every trial begins with.</summary>
    public ProofSpec Check { get; init; } = new();
}

/// <summary>The proof of the gradient: on a few samples, in float64, against the unrolled gradient and against finite differences.</summary>
public sealed record ProofSpec
{
    /// <summary>Whether and what for. Default: on.</summary>
    public ProofMode Mode { get; init; } = ProofMode.On;

    /// <summary>Samples that it is made on; the unrolled gradient holds all their activations. Default: 1.</summary>
    [Range(1, 1024)]
    public int Samples { get; init; } = 1;

    /// <summary>Steps of the sampler in the proof. Default: sample.steps.</summary>
    [Range(1, 1000)]
    public int? Steps { get; init; }

    /// <summary>Least cosine to the unrolled gradient that an approximate method may have. Default: 0.99.</summary>
    [Range(-1.0, 1.0)]
    public double MinCosine { get; init; } = 0.99;

    /// <summary>Largest distance from 1 of an approximate method's norm over the unrolled gradient's. Default: 0.1.</summary>
    [Range(0.0, 1e6)]
    public double MaxNormError { get; init; } = 0.1;
}

/// <summary>What a proof of the gradient is for.</summary>
public enum ProofMode
{
    /// <summary>Every trial begins with it and records it. A method that claims to be exact and is not fails the trial; an approximate one is noted.</summary>
    On,

    /// <summary>No proof.</summary>
    Off,

    /// <summary>The proof alone, group by group, without training: what 'adpm check' asks for.</summary>
    Only,
}

/// <summary>Gradient methods a spec may name.</summary>
public enum GradientName
{
    /// <summary>Adjoint of the discrete sampler: equals automatic differentiation through it.</summary>
    Discrete,

    /// <summary>Automatic differentiation through the unrolled sampler; stores every activation.</summary>
    StoreAll,

    /// <summary>The continuous adjoint of AdjointDPM: approximate, its error shrinks with the step.</summary>
    Continuous,

    /// <summary>The discrete adjoint with few states stored ('slots') and the others walked again: the same bits as discrete.</summary>
    Checkpointed,

    /// <summary>The discrete adjoint of the last steps only ('last'): DRaFT-K.</summary>
    Truncated,

    /// <summary>The gradient of the last step, averaged over noisings of the sample ('noisings'): DRaFT-LV.</summary>
    LowVariance,

    /// <summary>The discrete adjoint of a reversible sampler, which stores no states.</summary>
    Reversible,

    /// <summary>AdjointDEIS ('order'): a continuous adjoint of the probability flow or, along their own noise, of stochastic samplers.</summary>
    AdjointDeis,
}

/// <summary>Optimiser.</summary>
public sealed record OptimizerSpec
{
    /// <summary>Which optimiser. Default: adamw.</summary>
    public OptimizerName Name { get; init; } = OptimizerName.AdamW;

    /// <summary>Learning rate. Default: 1e-4.</summary>
    [Range(1e-12, 1e3)]
    public double LearningRate { get; init; } = 1e-4;

    /// <summary>First-moment decay. Default: 0.9.</summary>
    [Range(0.0, 0.999999)]
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Second-moment decay. Default: 0.999.</summary>
    [Range(0.0, 0.999999999)]
    public double Beta2 { get; init; } = 0.999;

    /// <summary>Added to the root of the second moment. Default: 1e-8.</summary>
    [Range(0.0, 1.0)]
    public double Epsilon { get; init; } = 1e-8;

    /// <summary>Decoupled weight decay. Default: 0.</summary>
    [Range(0.0, 10.0)]
    public double WeightDecay { get; init; }

    /// <summary>Clip the gradient to this L2 norm. Default: no clipping.</summary>
    [Range(1e-12, 1e12)]
    public double? MaxNorm { get; init; }
}

/// <summary>Optimisers a spec may name.</summary>
public enum OptimizerName
{
    /// <summary>Adam with decoupled weight decay.</summary>
    [JsonStringEnumMemberName("adamw")]
    AdamW,

    /// <summary>Plain gradient descent.</summary>
    Sgd,
}

/// <summary>Size and seed of a training run.</summary>
public sealed record TrainingSpec
{
    /// <summary>Optimiser steps. Default: 20.</summary>
    [Range(1, 10_000_000)]
    public int Steps { get; init; } = 20;

    /// <summary>Logical shards of a step: fixed, whatever the number of workers. Default: 4.</summary>
    [Range(1, 65_536)]
    public int Shards { get; init; } = 4;

    /// <summary>Samples a shard draws and differentiates. Default: 4.</summary>
    [Range(1, 65_536)]
    public int SamplesPerShard { get; init; } = 4;

    /// <summary>Seed of all noise: keyed (seed, step, shard, sample). Default: 1.</summary>
    [Range(0, int.MaxValue)]
    public int Seed { get; init; } = 1;
}

/// <summary>What trials are ranked by.</summary>
public sealed record ObjectiveSpec
{
    /// <summary>Name of a recorded metric, such as <c>heldOut.loss.after</c>. Default: loss (the training loss of the last step).</summary>
    [Required]
    public string Metric { get; init; } = "loss";

    /// <summary>Direction. Default: minimize.</summary>
    public Goal Goal { get; init; } = Goal.Minimize;
}

/// <summary>Directions of an objective.</summary>
public enum Goal
{
    /// <summary>Smaller is better.</summary>
    Minimize,

    /// <summary>Larger is better.</summary>
    Maximize,
}

/// <summary>Search algorithm.</summary>
public sealed record AlgorithmSpec
{
    /// <summary>Which search. Default: grid.</summary>
    public AlgorithmName Name { get; init; } = AlgorithmName.Grid;

    /// <summary>Seed of the search. Default: 1.</summary>
    [Range(0, int.MaxValue)]
    public int Seed { get; init; } = 1;
}

/// <summary>Searches a spec may name.</summary>
public enum AlgorithmName
{
    /// <summary>All combinations of the listed values, the last parameter fastest.</summary>
    Grid,

    /// <summary>Independent draws, keyed (seed, trial, parameter).</summary>
    Random,
}

/// <summary>Domain of one searched parameter: either values, or an interval.</summary>
public sealed record ParameterSpec
{
    /// <summary>Listed values, as text in the form the parameter takes; a list as a JSON array.</summary>
    [MinLength(1), NestedAsText]
    public IReadOnlyList<string>? Values { get; init; }

    /// <summary>How an interval is drawn from. Default: uniform.</summary>
    public Distribution Distribution { get; init; } = Distribution.Uniform;

    /// <summary>Lower end of an interval, inclusive.</summary>
    public double? Min { get; init; }

    /// <summary>Upper end of an interval, inclusive.</summary>
    public double? Max { get; init; }
}

/// <summary>Distributions over an interval.</summary>
public enum Distribution
{
    /// <summary>Uniform real numbers.</summary>
    Uniform,

    /// <summary>Uniform in the logarithm; needs min > 0.</summary>
    [JsonStringEnumMemberName("logUniform")]
    LogUniform,

    /// <summary>Uniform whole numbers.</summary>
    [JsonStringEnumMemberName("intUniform")]
    IntUniform,
}

/// <summary>What a shard needs.</summary>
public sealed record ResourceSpec
{
    /// <summary>Kind of device: cpu or cuda. Part of the run's identity. Default: cpu.</summary>
    public DeviceKind Device { get; init; } = DeviceKind.Cpu;

    /// <summary>Intra-op threads of libtorch in a worker. Part of the run's identity: results differ between counts. Default: 1.</summary>
    [Range(1, 256)]
    public int Threads { get; init; } = 1;
}

/// <summary>Kinds of devices.</summary>
public enum DeviceKind
{
    /// <summary>The host's processor.</summary>
    Cpu,

    /// <summary>An NVIDIA GPU.</summary>
    Cuda,
}

/// <summary>Failure policy.</summary>
public sealed record FailureSpec
{
    /// <summary>A shard is given up after this many attempts, and its trial fails. Default: 5.</summary>
    [Range(1, 100)]
    public int MaxShardAttempts { get; init; } = 5;

    /// <summary>A lease that was not renewed for this many seconds is given to another worker. Default: 5.</summary>
    [Range(0.5, 3600.0)]
    public double LeaseSeconds { get; init; } = 5.0;
}

/// <summary>What is kept along the way.</summary>
public sealed record CheckpointSpec
{
    /// <summary>Rows of the before/after sheet per class; the columns are the classes. Default: 4.</summary>
    [Range(1, 64)]
    public int SheetRows { get; init; } = 4;

    /// <summary>Newest committed steps whose inputs are kept, parameters and optimiser state, also after the trial's end, so that <c>adpm replay</c> can recompute them. Default: none; the first step needs none.</summary>
    [Range(1, 1_000_000)]
    public int? KeepSteps { get; init; }
}
