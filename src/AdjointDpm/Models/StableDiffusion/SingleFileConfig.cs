using System.Text.Json;
using System.Text.Json.Nodes;
using AdjointDpm.Formats;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>Configurations in the header of a single file, for models of other sizes than the released ones: the string <c>adjointdpm.config</c>, which other programs pass over.</summary>
internal static class SingleFileConfig
{
    private const string Key = "adjointdpm.config";

    /// <summary>Adds the string where a model is not as its kind was released.</summary>
    public static void AddTo(Dictionary<string, string> strings, StableDiffusionModel model)
    {
        var config = StableDiffusionConfig.Of(model);
        var (own, released) = (Fields(config), Fields(StableDiffusionConfig.Released(config.Kind)));
        // The schedule has no bearing on names and shapes; what it says of the prediction is said otherwise.
        if (!Parts.All(part => JsonNode.DeepEquals(Shape(own[part]), Shape(released[part]))))
            strings[Key] = own.ToJsonString();
    }

    /// <summary>The configurations that a file carries; null for none.</summary>
    /// <param name="file">The file.</param>
    /// <exception cref="SafetensorsException">The string is malformed.</exception>
    public static StableDiffusionConfig? Read(WeightFiles file)
    {
        if (!file.Metadata.TryGetValue(Key, out var json))
            return null;
        try
        {
            var fields = JsonNode.Parse(json)!.AsObject();
            T Part<T>(JsonNode? node) => ModelConfig.Of<T>(file.Path, node!.AsObject());
            return new([.. fields["text_encoders"]!.AsArray().Select(Part<ClipTextConfig>)], Part<UNet2DConditionConfig>(fields["unet"]), Part<AutoencoderKLConfig>(fields["vae"]), Part<SchedulerConfig>(fields["scheduler"]), fields["force_zeros_for_empty_prompt"]!.GetValue<bool>());
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or NullReferenceException or ModelConfigException)
        {
            throw new SafetensorsException(file.Path, null, $"{Key} in its header is malformed ({e.Message}). Convert the model again.", e);
        }
    }

    private static readonly string[] Parts = ["text_encoders", "unet", "vae"];

    private static JsonObject Fields(StableDiffusionConfig config) => new()
    {
        ["text_encoders"] = new JsonArray([.. config.TextEncoders.Select(t => (JsonNode)ModelConfig.Fields(t))]),
        ["unet"] = ModelConfig.Fields(config.Unet),
        ["vae"] = ModelConfig.Fields(config.Autoencoder),
        ["scheduler"] = ModelConfig.Fields(config.Scheduler),
        ["force_zeros_for_empty_prompt"] = config.ZerosForEmptyPrompt,
    };

    // What released files of one kind have otherwise and loaders do not ask for.
    private static JsonNode Shape(JsonNode? part)
    {
        if (part is JsonArray all)
            return new JsonArray([.. all.Select(Shape)]);
        var known = part!.DeepClone().AsObject();
        foreach (var field in known.Select(f => f.Key).Where(name => name.StartsWith('_') || name is "architectures" or "eos_token_id" or "pad_token_id" or "bos_token_id" or "projection_dim" or "sample_size" or "upcast_attention" or "transformers_version" or "torch_dtype" or "dtype" or "dropout" or "force_upcast").ToList())
            known.Remove(field);
        return known;
    }
}
