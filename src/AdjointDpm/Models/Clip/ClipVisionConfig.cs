using System.Text.Json;
using System.Text.Json.Serialization;

namespace AdjointDpm.Models.Clip;

/// <summary>The <c>config.json</c> of transformers' <c>CLIPVisionModelWithProjection</c>. Defaults are that class's, of ViT-B/32.</summary>
public sealed record ClipVisionConfig
{
    /// <summary>Classes the file is for.</summary>
    public IReadOnlyList<string> Architectures { get; init; } = ["CLIPVisionModelWithProjection"];

    /// <summary>Kind of model. Default: clip_vision_model.</summary>
    public string ModelType { get; init; } = "clip_vision_model";

    /// <summary>Width of the states. Default: 768; L/14 has 1024, H/14 1280.</summary>
    public int HiddenSize { get; init; } = 768;

    /// <summary>Width inside the feed-forward layers. Default: 3072.</summary>
    public int IntermediateSize { get; init; } = 3072;

    /// <summary>Width of the image's embedding. Default: 512; L/14 has 768, H/14 1024.</summary>
    public int ProjectionDim { get; init; } = 512;

    /// <summary>Layers. Default: 12.</summary>
    public int NumHiddenLayers { get; init; } = 12;

    /// <summary>Attention heads of a layer. Default: 12.</summary>
    public int NumAttentionHeads { get; init; } = 12;

    /// <summary>Channels of the image. Default: 3.</summary>
    public int NumChannels { get; init; } = 3;

    /// <summary>Side of the images, in pixels. Default: 224.</summary>
    public int ImageSize { get; init; } = 224;

    /// <summary>Side of a patch, in pixels. Default: 32.</summary>
    public int PatchSize { get; init; } = 32;

    /// <summary>Activation: <c>quick_gelu</c> (OpenAI's CLIP), <c>gelu</c> (OpenCLIP, exact). Default: quick_gelu.</summary>
    public string HiddenAct { get; init; } = "quick_gelu";

    /// <summary>Epsilon of the normalisations. Default: 1e-5.</summary>
    public double LayerNormEps { get; init; } = 1e-5;

    /// <summary>Fields of the file that have no property here; kept so that a written file has what the read one had.</summary>
    [JsonExtensionData]
    public IDictionary<string, JsonElement> Other { get; init; } = new Dictionary<string, JsonElement>();

    /// <summary>Reads a <c>config.json</c>; missing fields keep their defaults.</summary>
    /// <exception cref="ModelConfigException">The file is missing, malformed, or for another kind of model.</exception>
    public static ClipVisionConfig Read(string path)
    {
        var config = ModelConfig.Read<ClipVisionConfig>(path);
        return config.ModelType == "clip_vision_model"
            ? config
            : throw new ModelConfigException($"{path}: is of model_type '{config.ModelType}', expected clip_vision_model. Of a whole CLIP model use its vision part.");
    }

    /// <summary>Writes a <c>config.json</c> that transformers loads.</summary>
    public void Write(string path) => ModelConfig.Write(path, this);
}
