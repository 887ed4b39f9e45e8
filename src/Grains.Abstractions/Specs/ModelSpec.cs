using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace AdjointDpm.Grains.Specs;

/// <summary>The diffusion model.</summary>
public sealed record ModelSpec
{
    /// <summary>A diffusers folder (with <c>unet/</c> and <c>scheduler/</c>), relative to the spec file; or a model in the Hugging Face cache as <c>org/name</c> or <c>org/name@revision</c>, which becomes the folder of its commit.</summary>
    [Required, ExistingPath(ExistingPathKind.Model)]
    public required string Path { get; init; }

    /// <summary>Number format of the network's weights and activations. States of the sampler, adapters, and sums of gradients are float32 at least. Default: float32.</summary>
    public NumberFormat Dtype { get; init; } = NumberFormat.Float32;

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
