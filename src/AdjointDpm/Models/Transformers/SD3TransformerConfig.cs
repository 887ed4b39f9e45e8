using System.Text.Json;
using System.Text.Json.Serialization;

namespace AdjointDpm.Models.Transformers;

/// <summary>The <c>config.json</c> of diffusers' <c>SD3Transformer2DModel</c>: Stable Diffusion 3 and 3.5. Defaults are that class's.</summary>
public sealed record SD3TransformerConfig
{
    /// <summary>Class the folder is for.</summary>
    [JsonPropertyName("_class_name"), JsonPropertyOrder(-1)]
    public string ClassName { get; init; } = nameof(SD3Transformer2DModel);

    /// <summary>Height and width of the latents it was trained on, to which positions are scaled. Default: 128.</summary>
    public int SampleSize { get; init; } = 128;

    /// <summary>Side of a patch, in latent pixels. Default: 2.</summary>
    public int PatchSize { get; init; } = 2;

    /// <summary>Channels of the sample. Default: 16.</summary>
    public int InChannels { get; init; } = 16;

    /// <summary>Transformer blocks. Default: 18; 24 in the released medium models, 38 in 3.5 large.</summary>
    public int NumLayers { get; init; } = 18;

    /// <summary>Width of one head. Default: 64.</summary>
    public int AttentionHeadDim { get; init; } = 64;

    /// <summary>Heads of every attention. Default: 18.</summary>
    public int NumAttentionHeads { get; init; } = 18;

    /// <summary>Width of the text's states as they come. Default: 4096.</summary>
    public int JointAttentionDim { get; init; } = 4096;

    /// <summary>Width that they are projected to: heads times their width. Default: 1152.</summary>
    public int CaptionProjectionDim { get; init; } = 1152;

    /// <summary>Width of the pooled text. Default: 2048.</summary>
    public int PooledProjectionDim { get; init; } = 2048;

    /// <summary>Channels of the prediction; null for those of the sample. Default: 16.</summary>
    public int? OutChannels { get; init; } = 16;

    /// <summary>Side of the table of positions, in patches: no larger latents can be taken. Default: 96.</summary>
    public int PosEmbedMaxSize { get; init; } = 96;

    /// <summary>Blocks, from 0, in which the picture attends to itself alone, too: 0 to 12 in 3.5 medium. Default: none.</summary>
    public IReadOnlyList<int> DualAttentionLayers { get; init; } = [];

    /// <summary><c>rms_norm</c>: queries and keys are normalised, as in 3.5. Default: null, they are not.</summary>
    public string? QkNorm { get; init; }

    /// <summary>Fields of the file that have no property here; kept so that a written file has what the read one had.</summary>
    [JsonExtensionData]
    public IDictionary<string, JsonElement> Other { get; init; } = new Dictionary<string, JsonElement>();

    /// <summary>Width of the blocks.</summary>
    [JsonIgnore]
    public int Width => NumAttentionHeads * AttentionHeadDim;

    /// <summary>Reads a <c>config.json</c>; missing fields keep their defaults.</summary>
    /// <exception cref="ModelConfigException">The file is missing, malformed, or for another class.</exception>
    public static SD3TransformerConfig Read(string path)
    {
        var config = ModelConfig.Read<SD3TransformerConfig>(path);
        return config.ClassName == nameof(SD3Transformer2DModel)
            ? config
            : throw new ModelConfigException($"{path}: _class_name is '{config.ClassName}', expected {nameof(SD3Transformer2DModel)}.");
    }

    /// <summary>Writes a <c>config.json</c> that diffusers loads.</summary>
    public void Write(string path) => ModelConfig.Write(path, this);
}
