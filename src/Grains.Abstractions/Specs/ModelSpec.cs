using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Specs;

/// <summary>The diffusion model.</summary>
public sealed record ModelSpec
{
    /// <summary>A diffusers folder (with <c>unet/</c> and <c>scheduler/</c>) or a single-file checkpoint of Stable Diffusion 1, 2 or XL, relative to the spec file; or a model in the Hugging Face cache as <c>org/name</c> or <c>org/name@revision</c>, which becomes the folder of its commit.</summary>
    [Required, ExistingPath(ExistingPathKind.Model)]
    public required string Path { get; init; }

    /// <summary>Number format of the network's weights and activations. States of the sampler, adapters, and sums of gradients are float32 at least. Default: float32.</summary>
    public NumberFormat Dtype { get; init; } = NumberFormat.Float32;

    /// <summary>What the network of a text model predicts, for checkpoints that do not say. Default: what the model says.</summary>
    public PredictionName? Prediction { get; init; }

    /// <summary>LoRA files that are part of the model: added to its weights before anything else. Text models only. Default: none.</summary>
    [MinLength(1)]
    public IReadOnlyList<LoraSpec>? Loras { get; init; }

    /// <summary>Blocks of the networks, the decoder's too, are computed again on the way back: a fraction of the memory for one evaluation more, and the same bits. Default: no.</summary>
    public bool? Checkpointing { get; init; }

    /// <summary>Attention of text models by libtorch's fused kernel: it keeps no weights of pixels by pixels for the way back, and rounds otherwise. Default: no.</summary>
    public bool? FusedAttention { get; init; }

    /// <summary>The decoder takes one sample after the other, for models that decode. Default: no.</summary>
    public bool? DecoderSlices { get; init; }

    /// <summary>The decoder takes overlapping tiles of so many pixels a side, blended; the picture is not quite that of one decode. Default: whole pictures.</summary>
    [Range(32, 16_384)]
    public int? DecoderTiles { get; init; }
}

/// <summary>A LoRA that is part of a model.</summary>
public sealed record LoraSpec
{
    /// <summary>A file in either dialect, or a folder as PEFT writes it; relative to the spec file.</summary>
    [Required, ExistingPath(ExistingPathKind.Model)]
    public required string Path { get; init; }

    /// <summary>Factor of what it adds. Default: 1.</summary>
    [Range(-100.0, 100.0)]
    public double Weight { get; init; } = 1;
}

/// <summary>What a network predicts.</summary>
public enum PredictionName
{
    /// <summary>The noise.</summary>
    Epsilon,

    /// <summary>v: alpha eps - sigma x0.</summary>
    [JsonStringEnumMemberName("v_prediction")]
    Velocity,
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
    /// <summary>What receives the gradient. Default: weights.</summary>
    public TrainTarget Target { get; init; } = TrainTarget.Weights;

    /// <summary>Glob patterns over parameter names (<c>*</c> matches any run of characters), for <c>weights</c> and <c>lora</c>. Default: all.</summary>
    [MinLength(1)]
    public IReadOnlyList<string> Include { get; init; } = ["*"];

    /// <summary>Rank of the adapters, for <c>lora</c>. Default: 4.</summary>
    [Range(1, 1024)]
    public int Rank { get; init; } = 4;

    /// <summary>Scale of the adapters times their rank, for <c>lora</c>. Default: equal to the rank.</summary>
    [Range(0.0, 1e6)]
    public double? Alpha { get; init; }

    /// <summary>A LoRA to go on with, for <c>lora</c>: a file in either dialect or PEFT's folder, with adapters on exactly the layers of <c>include</c>, of this rank and alpha. Default: a new one.</summary>
    [ExistingPath(ExistingPathKind.Model)]
    public string? From { get; init; }

    /// <summary>How x_T moves and where it may go, for <c>noise</c>. Default: as the optimiser takes it, anywhere.</summary>
    public NoiseTrainSpec? Noise { get; init; }

    /// <summary>Rows of the conditioning that are trained, for <c>condition</c>: positions of tokens, counted from 0 at the start token, or classes. Default: all.</summary>
    [MinLength(1)]
    public IReadOnlyList<int>? Positions { get; init; }
}

/// <summary>How the initial noise x_T of each sample moves. Every sample is a problem of its own: limits and lengths are of one sample's x_T.</summary>
public sealed record NoiseTrainSpec
{
    /// <summary>Set every x_T back to the length that it began with after each step, as DOODL does (Wallace et al. 2023). Default: false.</summary>
    public bool? KeepNorm { get; init; }

    /// <summary>Momentum of gradient descent: v = momentum v + g, x_T = x_T - learningRate v; for sgd. Default: 0.</summary>
    [Range(0.0, 0.999999)]
    public double? Momentum { get; init; }

    /// <summary>Values of the gradient beyond this size are cut to it, before all else: DOODL's 1e-3. Default: none.</summary>
    [Range(1e-12, 1e12)]
    public double? Clip { get; init; }

    /// <summary>What of the gradient a step goes along: itself, the signs of its values, or itself at length 1. The step's size is then optimizer.learningRate, for sgd. Default: gradient.</summary>
    public NoiseStepName? Step { get; init; }

    /// <summary>Where x_T may go. Default: anywhere.</summary>
    public NoiseBoxSpec? Box { get; init; }
}

/// <summary>A neighbourhood of the noise that a sample began with; x_T is projected onto it after each step.</summary>
public sealed record NoiseBoxSpec
{
    /// <summary>linf: no value changes by more than the radius. l2: the length of the change is at most the radius.</summary>
    [Required]
    public required NoiseBoxNorm Norm { get; init; }

    /// <summary>Radius, in units of x_T, whose values have deviation 1.</summary>
    [Required, Range(1e-9, 1e9)]
    public required double Radius { get; init; }

    /// <summary>Starts for each noise, the first at the noise itself and the others drawn from the box; samplesPerShard must be a multiple of it. Default: 1.</summary>
    [Range(1, 1024)]
    public int? Restarts { get; init; }
}

/// <summary>Norms of a box.</summary>
public enum NoiseBoxNorm
{
    /// <summary>Largest value.</summary>
    Linf,

    /// <summary>Euclidean length.</summary>
    L2,
}

/// <summary>What of a gradient a step of the noise goes along.</summary>
public enum NoiseStepName
{
    /// <summary>The gradient.</summary>
    Gradient,

    /// <summary>The signs of its values: Madry et al. (2018) in the largest-value norm.</summary>
    Sign,

    /// <summary>The gradient over its length.</summary>
    Normalized,
}

/// <summary>Kinds of trained parameters.</summary>
public enum TrainTarget
{
    /// <summary>The network's own weights.</summary>
    Weights,

    /// <summary>Low-rank adapters on linear and convolution layers; the weights stay.</summary>
    Lora,

    /// <summary>The initial noise x_T of shards x samplesPerShard samples, which are the same at every step.</summary>
    Noise,

    /// <summary>The conditioning: embeddings of the prompts' tokens, or rows of a class table ('positions').</summary>
    Condition,

    /// <summary>Nothing: samples are drawn without and with sample.lookAhead.</summary>
    None,
}
