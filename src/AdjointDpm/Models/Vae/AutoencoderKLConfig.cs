using System.Text.Json;
using System.Text.Json.Serialization;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Vae;

/// <summary>The <c>config.json</c> of diffusers' <c>AutoencoderKL</c>. Defaults are that class's.</summary>
public sealed record AutoencoderKLConfig
{
    /// <summary>Class the folder is for.</summary>
    [JsonPropertyName("_class_name"), JsonPropertyOrder(-1)]
    public string ClassName { get; init; } = nameof(AutoencoderKL);

    /// <summary>Channels of the image. Default: 3.</summary>
    public int InChannels { get; init; } = 3;

    /// <summary>Channels of the decoded image. Default: 3.</summary>
    public int OutChannels { get; init; } = 3;

    /// <summary>Stages of the encoder, each <c>DownEncoderBlock2D</c>.</summary>
    public IReadOnlyList<string> DownBlockTypes { get; init; } = ["DownEncoderBlock2D"];

    /// <summary>Stages of the decoder, each <c>UpDecoderBlock2D</c>.</summary>
    public IReadOnlyList<string> UpBlockTypes { get; init; } = ["UpDecoderBlock2D"];

    /// <summary>Channels of each stage of the encoder, and of the decoder in reverse.</summary>
    public IReadOnlyList<int> BlockOutChannels { get; init; } = [64];

    /// <summary>Residual blocks of one stage of the encoder; the decoder has one more. Default: 1.</summary>
    public int LayersPerBlock { get; init; } = 1;

    /// <summary>Activation: silu, swish, mish, gelu or relu. Default: silu.</summary>
    public string ActFn { get; init; } = "silu";

    /// <summary>Channels of the latent. Default: 4.</summary>
    public int LatentChannels { get; init; } = 4;

    /// <summary>Groups of the normalisations. Default: 32.</summary>
    public int NormNumGroups { get; init; } = 32;

    /// <summary>Height and width of the images it was trained on, in pixels: the side of a tile. Default: 32.</summary>
    public OneOrMany SampleSize { get; init; } = 32;

    /// <summary>The diffusion network sees the latent times this, which gives it unit variance. Default: 0.18215; SDXL's is 0.13025.</summary>
    public double ScalingFactor { get; init; } = 0.18215;

    /// <summary>Subtracted from the latent before it is scaled. Default: null, nothing.</summary>
    public double? ShiftFactor { get; init; }

    /// <summary>Mean of each channel of the latent, subtracted before it is scaled, where <see cref="LatentsStd"/> is given too; wins over <see cref="ShiftFactor"/>. Default: null.</summary>
    public IReadOnlyList<double>? LatentsMean { get; init; }

    /// <summary>Deviation of each channel of the latent, by which it is divided as it is scaled, where <see cref="LatentsMean"/> is given too. Default: null.</summary>
    public IReadOnlyList<double>? LatentsStd { get; init; }

    /// <summary>The network overflows in float16, as SDXL's does: run it in float32 or bfloat16. Default: true.</summary>
    public bool ForceUpcast { get; init; } = true;

    /// <summary>A 1×1 convolution follows the encoder. Default: true.</summary>
    public bool UseQuantConv { get; init; } = true;

    /// <summary>A 1×1 convolution precedes the decoder. Default: true.</summary>
    public bool UsePostQuantConv { get; init; } = true;

    /// <summary>The middles have self-attention. Default: true.</summary>
    public bool MidBlockAddAttention { get; init; } = true;

    /// <summary>Fields of the file that have no property here; kept so that a written file has what the read one had.</summary>
    [JsonExtensionData]
    public IDictionary<string, JsonElement> Other { get; init; } = new Dictionary<string, JsonElement>();

    /// <summary>How many pixels one latent pixel stands for, along a side.</summary>
    [JsonIgnore]
    public int Reduction => 1 << (BlockOutChannels.Count - 1);

    /// <summary>The dtype that this autoencoder computes in where networks are asked to compute in another: one that overflows in float16 stays in float32.</summary>
    internal ScalarType DtypeFor(ScalarType asked) => asked == ScalarType.Float16 && ForceUpcast ? ScalarType.Float32 : asked;

    /// <summary>Reads a <c>config.json</c>; missing fields keep their defaults.</summary>
    /// <exception cref="ModelConfigException">The file is missing, malformed, or for another class.</exception>
    public static AutoencoderKLConfig Read(string path)
    {
        var config = ModelConfig.Read<AutoencoderKLConfig>(path);
        return config.ClassName == nameof(AutoencoderKL)
            ? config
            : throw new ModelConfigException($"{path}: _class_name is '{config.ClassName}', expected {nameof(AutoencoderKL)}.");
    }

    /// <summary>Writes a <c>config.json</c> that diffusers loads.</summary>
    public void Write(string path) => ModelConfig.Write(path, this);
}
