using System.Text.Json;
using System.Text.Json.Serialization;

namespace AdjointDpm.Models.Unet;

/// <summary>The <c>config.json</c> of diffusers' <c>UNet2DModel</c>. Defaults are that class's.</summary>
public sealed record UNet2DConfig
{
    /// <summary>Class the folder is for.</summary>
    [JsonPropertyName("_class_name"), JsonPropertyOrder(-1)]
    public string ClassName { get; init; } = nameof(UNet2DModel);

    /// <summary>Height and width of the sample, in pixels; the network itself takes any size. Default: not said.</summary>
    public OneOrMany? SampleSize { get; init; }

    /// <summary>Channels of the sample. Default: 3.</summary>
    public int InChannels { get; init; } = 3;

    /// <summary>Channels of the output. Default: 3.</summary>
    public int OutChannels { get; init; } = 3;

    /// <summary>The sample is mapped from [0, 1] to [-1, 1] first. Default: false.</summary>
    public bool CenterInputSample { get; init; }

    /// <summary><c>positional</c> or <c>fourier</c>. Default: positional.</summary>
    public string TimeEmbeddingType { get; init; } = "positional";

    /// <summary>Subtracted from the number of frequencies when they are spaced. Default: 0.</summary>
    public double FreqShift { get; init; }

    /// <summary>Cosines come before sines. Default: true.</summary>
    public bool FlipSinToCos { get; init; } = true;

    /// <summary>Stages on the way down: <c>DownBlock2D</c> or <c>AttnDownBlock2D</c>.</summary>
    public IReadOnlyList<string> DownBlockTypes { get; init; } = ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"];

    /// <summary>The middle: <c>UNetMidBlock2D</c>, or null for none. Default: UNetMidBlock2D.</summary>
    public string? MidBlockType { get; init; } = "UNetMidBlock2D";

    /// <summary>Stages on the way up: <c>UpBlock2D</c> or <c>AttnUpBlock2D</c>.</summary>
    public IReadOnlyList<string> UpBlockTypes { get; init; } = ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"];

    /// <summary>Channels of each stage on the way down.</summary>
    public IReadOnlyList<int> BlockOutChannels { get; init; } = [224, 448, 672, 896];

    /// <summary>Residual blocks of a stage on the way down; one more on the way up. Default: 2.</summary>
    public int LayersPerBlock { get; init; } = 2;

    /// <summary>Divides the output of the middle's blocks. Default: 1.</summary>
    public double MidBlockScaleFactor { get; init; } = 1;

    /// <summary>Padding of the halving convolutions; 0 pads on the right and below only. Default: 1.</summary>
    public int DownsamplePadding { get; init; } = 1;

    /// <summary><c>conv</c> or <c>resnet</c>, for stages with attention. Default: conv.</summary>
    public string DownsampleType { get; init; } = "conv";

    /// <summary><c>conv</c> or <c>resnet</c>, for stages with attention. Default: conv.</summary>
    public string UpsampleType { get; init; } = "conv";

    /// <summary>Probability of dropout in training mode. Default: 0.</summary>
    public double Dropout { get; init; }

    /// <summary>Activation: silu, swish, mish, gelu or relu. Default: silu.</summary>
    public string ActFn { get; init; } = "silu";

    /// <summary>Channels of one attention head; null for a single head. Default: 8.</summary>
    public int? AttentionHeadDim { get; init; } = 8;

    /// <summary>Groups of the normalisations. Default: 32.</summary>
    public int NormNumGroups { get; init; } = 32;

    /// <summary>Groups of the normalisation in the middle's attention. Default: null, the same as elsewhere.</summary>
    public int? AttnNormNumGroups { get; init; }

    /// <summary>Epsilon of the normalisations. Default: 1e-5.</summary>
    public double NormEps { get; init; } = 1e-5;

    /// <summary><c>default</c>: time is added; <c>scale_shift</c>: it scales and shifts. Default: default.</summary>
    public string ResnetTimeScaleShift { get; init; } = "default";

    /// <summary>The middle has attention. Default: true.</summary>
    public bool AddAttention { get; init; } = true;

    /// <summary>How class labels enter: null (a table when <see cref="NumClassEmbeds"/> is set), <c>timestep</c> or <c>identity</c>. Default: null.</summary>
    public string? ClassEmbedType { get; init; }

    /// <summary>Rows of the table of classes. Default: null, no classes.</summary>
    public int? NumClassEmbeds { get; init; }

    /// <summary>Fields of the file that have no property here; kept so that a written file has what the read one had.</summary>
    [JsonExtensionData]
    public IDictionary<string, JsonElement> Other { get; init; } = new Dictionary<string, JsonElement>();

    /// <summary>Reads a <c>config.json</c>; missing fields keep their defaults.</summary>
    /// <exception cref="ModelConfigException">The file is missing, malformed, for another class, or asks for what is not supported.</exception>
    public static UNet2DConfig Read(string path)
    {
        var config = ModelConfig.Read<UNet2DConfig>(path);
        if (config.ClassName != nameof(UNet2DModel))
            throw new ModelConfigException($"{path}: _class_name is '{config.ClassName}', expected {nameof(UNet2DModel)}.");
        ModelConfig.ThrowIfOn(path, config.Other, [("time_embedding_dim", null)]);
        return config;
    }

    /// <summary>Writes a <c>config.json</c> that diffusers loads.</summary>
    public void Write(string path) => ModelConfig.Write(path, this);
}
