using System.Text.Json;
using System.Text.Json.Serialization;

namespace AdjointDpm.Models.Clip;

/// <summary>The <c>config.json</c> of transformers' <c>CLIPTextModel</c> and <c>CLIPTextModelWithProjection</c>. Defaults are those classes'.</summary>
public sealed record ClipTextConfig
{
    /// <summary>Classes the file is for; <c>CLIPTextModelWithProjection</c> has a projection of the pooled state. Default: CLIPTextModel.</summary>
    public IReadOnlyList<string> Architectures { get; init; } = ["CLIPTextModel"];

    /// <summary>Kind of model. Default: clip_text_model.</summary>
    public string ModelType { get; init; } = "clip_text_model";

    /// <summary>Tokens known. Default: 49408.</summary>
    public int VocabSize { get; init; } = 49408;

    /// <summary>Width of the states. Default: 512; SD1 has 768, SD2 1024, SDXL 768 and 1280.</summary>
    public int HiddenSize { get; init; } = 512;

    /// <summary>Width inside the feed-forward layers. Default: 2048.</summary>
    public int IntermediateSize { get; init; } = 2048;

    /// <summary>Width of the projected pooled state. Default: 512.</summary>
    public int ProjectionDim { get; init; } = 512;

    /// <summary>Layers. Default: 12.</summary>
    public int NumHiddenLayers { get; init; } = 12;

    /// <summary>Attention heads of a layer. Default: 8.</summary>
    public int NumAttentionHeads { get; init; } = 8;

    /// <summary>Longest text, in tokens. Default: 77.</summary>
    public int MaxPositionEmbeddings { get; init; } = 77;

    /// <summary>Activation: <c>quick_gelu</c> (OpenAI's CLIP), <c>gelu</c> (OpenCLIP, exact). Default: quick_gelu.</summary>
    public string HiddenAct { get; init; } = "quick_gelu";

    /// <summary>Epsilon of the normalisations. Default: 1e-5.</summary>
    public double LayerNormEps { get; init; } = 1e-5;

    /// <summary>The token that pads. Default: 1, which files of old releases say and no tokenizer uses.</summary>
    public int? PadTokenId { get; init; } = 1;

    /// <summary>The token that begins a text. Default: 49406.</summary>
    public int? BosTokenId { get; init; } = 49406;

    /// <summary>The token that ends a text and is pooled; 2 in files of old releases, which means the largest token. Default: 49407.</summary>
    public int? EosTokenId { get; init; } = 49407;

    /// <summary>Fields of the file that have no property here; kept so that a written file has what the read one had.</summary>
    [JsonExtensionData]
    public IDictionary<string, JsonElement> Other { get; init; } = new Dictionary<string, JsonElement>();

    /// <summary>Whether the pooled state is projected.</summary>
    [JsonIgnore]
    public bool Projects => Architectures.Contains("CLIPTextModelWithProjection");

    /// <summary>Reads a <c>config.json</c>; missing fields keep their defaults.</summary>
    /// <exception cref="ModelConfigException">The file is missing, malformed, or for another kind of model.</exception>
    public static ClipTextConfig Read(string path)
    {
        var config = ModelConfig.Read<ClipTextConfig>(path);
        return config.ModelType == "clip_text_model" && config.Architectures.All(a => a is "CLIPTextModel" or "CLIPTextModelWithProjection")
            ? config
            : throw new ModelConfigException($"{path}: is for {string.Join(", ", config.Architectures)} of model_type '{config.ModelType}', expected CLIPTextModel or CLIPTextModelWithProjection.");
    }

    /// <summary>Writes a <c>config.json</c> that transformers loads.</summary>
    public void Write(string path) => ModelConfig.Write(path, this);
}
