using System.Text.Json;
using System.Text.Json.Serialization;

namespace AdjointDpm.Models.Unet;

/// <summary>The <c>config.json</c> of diffusers' <c>UNet2DConditionModel</c>, as Stable Diffusion 1, 2 and XL use it. Defaults are that class's.</summary>
public sealed record UNet2DConditionConfig
{
    // Fields that change the network and are not supported, with the value that turns each off.
    private static readonly (string Field, string? Off)[] Unsupported =
    [
        ("dual_cross_attention", "false"), ("encoder_hid_dim", null), ("encoder_hid_dim_type", null),
        ("time_embedding_dim", null), ("time_embedding_act_fn", null), ("timestep_post_act", null), ("time_cond_proj_dim", null),
        ("resnet_skip_time_act", "false"), ("cross_attention_norm", null), ("mid_block_only_cross_attention", null), ("class_embeddings_concat", "false"),
        ("reverse_transformer_layers_per_block", null), ("attention_type", "\"default\""), ("time_embedding_type", "\"positional\""), ("resnet_out_scale_factor", "1"),
    ];

    /// <summary>Class the folder is for.</summary>
    [JsonPropertyName("_class_name"), JsonPropertyOrder(-1)]
    public string ClassName { get; init; } = nameof(UNet2DConditionModel);

    /// <summary>Height and width of the latent sample; the network itself takes any size. Default: not said.</summary>
    public OneOrMany? SampleSize { get; init; }

    /// <summary>Channels of the sample. Default: 4.</summary>
    public int InChannels { get; init; } = 4;

    /// <summary>Channels of the output. Default: 4.</summary>
    public int OutChannels { get; init; } = 4;

    /// <summary>The sample is mapped from [0, 1] to [-1, 1] first. Default: false.</summary>
    public bool CenterInputSample { get; init; }

    /// <summary>Cosines come before sines. Default: true.</summary>
    public bool FlipSinToCos { get; init; } = true;

    /// <summary>Subtracted from the number of frequencies when they are spaced. Default: 0.</summary>
    public double FreqShift { get; init; }

    /// <summary>Stages on the way down: <c>CrossAttnDownBlock2D</c> or <c>DownBlock2D</c>.</summary>
    public IReadOnlyList<string> DownBlockTypes { get; init; } = ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"];

    /// <summary>The middle: <c>UNetMidBlock2DCrossAttn</c>, or null for none.</summary>
    public string? MidBlockType { get; init; } = "UNetMidBlock2DCrossAttn";

    /// <summary>Stages on the way up: <c>UpBlock2D</c> or <c>CrossAttnUpBlock2D</c>.</summary>
    public IReadOnlyList<string> UpBlockTypes { get; init; } = ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"];

    /// <summary>The first attention of a transformer block looks at the context too. Default: false.</summary>
    public bool OnlyCrossAttention { get; init; }

    /// <summary>Channels of each stage on the way down.</summary>
    public IReadOnlyList<int> BlockOutChannels { get; init; } = [320, 640, 1280, 1280];

    /// <summary>Residual blocks of a stage on the way down; one more on the way up. Default: 2.</summary>
    public int LayersPerBlock { get; init; } = 2;

    /// <summary>Padding of the halving convolutions; 0 pads on the right and below only. Default: 1.</summary>
    public int DownsamplePadding { get; init; } = 1;

    /// <summary>Divides the output of the middle's residual blocks. Default: 1.</summary>
    public double MidBlockScaleFactor { get; init; } = 1;

    /// <summary>Probability of dropout in training mode. Default: 0.</summary>
    public double Dropout { get; init; }

    /// <summary>Activation: silu, swish, mish, gelu or relu. Default: silu.</summary>
    public string ActFn { get; init; } = "silu";

    /// <summary>Groups of the normalisations. Default: 32.</summary>
    public int NormNumGroups { get; init; } = 32;

    /// <summary>Epsilon of the normalisations. Default: 1e-5.</summary>
    public double NormEps { get; init; } = 1e-5;

    /// <summary>Width of the conditioning sequence. Default: 1280.</summary>
    public OneOrMany CrossAttentionDim { get; init; } = 1280;

    /// <summary>Transformer blocks behind one residual block, for all stages or for each. Default: 1.</summary>
    public OneOrMany TransformerLayersPerBlock { get; init; } = 1;

    /// <summary>The <b>number</b> of attention heads, for all stages or for each: a name that diffusers keeps for old files. Default: 8.</summary>
    public OneOrMany AttentionHeadDim { get; init; } = 8;

    /// <summary>The number of attention heads under its right name; wins over <see cref="AttentionHeadDim"/>. Default: null.</summary>
    public OneOrMany? NumAttentionHeads { get; init; }

    /// <summary>Transformers project by linear layers (SD2, SDXL), not 1×1 convolutions (SD1). Default: false.</summary>
    public bool UseLinearProjection { get; init; }

    /// <summary>Attention weights are computed in float32 whatever the network's dtype. Default: false.</summary>
    public bool UpcastAttention { get; init; }

    /// <summary><c>default</c>: time is added; <c>scale_shift</c>: it scales and shifts. Default: default.</summary>
    public string ResnetTimeScaleShift { get; init; } = "default";

    /// <summary>What is added to the time: null for nothing, <c>text_time</c> for SDXL's pooled text and picture sizes. Default: null.</summary>
    public string? AdditionEmbedType { get; init; }

    /// <summary>Width of the embedding of one of SDXL's six numbers. Default: null.</summary>
    public int? AdditionTimeEmbedDim { get; init; }

    /// <summary>How class labels enter: null (a table when <see cref="NumClassEmbeds"/> is set), <c>timestep</c>, <c>identity</c>, <c>projection</c> or <c>simple_projection</c>. Default: null.</summary>
    public string? ClassEmbedType { get; init; }

    /// <summary>Rows of the table of classes. Default: null, no classes.</summary>
    public int? NumClassEmbeds { get; init; }

    /// <summary>Width of SDXL's pooled text and embedded numbers together; of the vectors that are projected for <see cref="ClassEmbedType"/>. Default: null.</summary>
    public int? ProjectionClassEmbeddingsInputDim { get; init; }

    /// <summary>Kernel of the first convolution. Default: 3.</summary>
    public int ConvInKernel { get; init; } = 3;

    /// <summary>Kernel of the last convolution. Default: 3.</summary>
    public int ConvOutKernel { get; init; } = 3;

    /// <summary>Fields of the file that have no property here; kept so that a written file has what the read one had.</summary>
    [JsonExtensionData]
    public IDictionary<string, JsonElement> Other { get; init; } = new Dictionary<string, JsonElement>();

    /// <summary>Whether the network is told classes, or vectors in their place, besides the text.</summary>
    [JsonIgnore]
    public bool HasClasses => ClassEmbedType is not null || NumClassEmbeds is not null;

    /// <summary>Reads a <c>config.json</c>; missing fields keep their defaults.</summary>
    /// <exception cref="ModelConfigException">The file is missing, malformed, for another class, or asks for what is not supported.</exception>
    public static UNet2DConditionConfig Read(string path)
    {
        var config = ModelConfig.Read<UNet2DConditionConfig>(path);
        if (config.ClassName != nameof(UNet2DConditionModel))
            throw new ModelConfigException($"{path}: _class_name is '{config.ClassName}', expected {nameof(UNet2DConditionModel)}.");
        ModelConfig.ThrowIfOn(path, config.Other, Unsupported);
        return config;
    }

    /// <summary>Writes a <c>config.json</c> that diffusers loads.</summary>
    public void Write(string path) => ModelConfig.Write(path, this);
}
