using System.Text.Json;
using System.Text.Json.Nodes;
using AdjointDpm.Formats;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>A whole Stable Diffusion 1, 2 or XL folder as diffusers lays it out, found by its <c>model_index.json</c>.</summary>
/// <remarks>
/// Weights are read tensor by tensor, each into memory that its network then keeps; one that has to change its dtype lies there
/// twice while it does. Missing fields of configurations have their class's defaults; components that make no picture, such as the safety checker, are passed over.
/// </remarks>
public sealed class StableDiffusionFolder : StableDiffusionSource
{
    private const string ConfigFile = "config.json";
    private const string DiffusersStem = "diffusion_pytorch_model", TextStem = "model";
    private const string UnetPart = "unet", VaePart = "vae", SchedulerPart = "scheduler";
    private static readonly (string Encoder, string Tokenizer)[] Texts = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")];

    private readonly Dictionary<string, string> _parts;
    private readonly string? _variant;
    private string? _prediction;

    private StableDiffusionFolder(string path, string? variant, Dictionary<string, string> parts, bool zeros) => (Path, _variant, _parts, ZerosForEmptyPrompt) = (path, variant, parts, zeros);

    /// <summary>The folder that was opened.</summary>
    public override string Path { get; }

    /// <summary>Number of text encoders: two for SDXL.</summary>
    public int TextEncoderCount => Texts.Count(t => _parts.ContainsKey(t.Encoder));

    /// <summary>Whether no negative prompt means zeros, as for SDXL, and not the empty text: <c>force_zeros_for_empty_prompt</c>.</summary>
    public bool ZerosForEmptyPrompt { get; }

    /// <summary>Opens a folder; only its index is read.</summary>
    /// <param name="path">The pipeline's folder.</param>
    /// <param name="variant">Variant of the weights, such as <c>fp16</c>. Default: the plain ones, or fp16 where only those are there.</param>
    /// <exception cref="ModelConfigException">The folder or its index is missing or malformed, or a component is of a class that is not supported.</exception>
    public static StableDiffusionFolder Open(string path, string? variant = null)
    {
        if (!Directory.Exists(path))
            throw DiffusersFolder.Missing(path);
        var index = System.IO.Path.Combine(path, "model_index.json");
        var fields = ModelConfig.Read<Dictionary<string, JsonElement>>(index);
        var parts = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var (name, value) in fields)
        {
            // A component is [library, class]; [null, null] is one that the pipeline does without.
            if (value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 2 && value[1].ValueKind == JsonValueKind.String)
                parts[name] = value[1].GetString()!.Replace("Flax", "", StringComparison.Ordinal);
        }

        Require(UnetPart, nameof(UNet2DConditionModel));
        Require(VaePart, nameof(AutoencoderKL));
        Require(SchedulerPart);
        Require(Texts[0].Encoder, "CLIPTextModel", "CLIPTextModelWithProjection");
        foreach (var (encoder, tokenizer) in Texts.Where(t => parts.ContainsKey(t.Encoder)))
        {
            Require(encoder, "CLIPTextModel", "CLIPTextModelWithProjection");
            Require(tokenizer, "CLIPTokenizer", "CLIPTokenizerFast");
        }

        // XL's pipelines alone know the field, and have it on where an index does not say.
        var saysZeros = fields.TryGetValue("force_zeros_for_empty_prompt", out var zeros) && zeros.ValueKind is JsonValueKind.True or JsonValueKind.False;
        return new(path, variant, parts, saysZeros ? zeros.ValueKind == JsonValueKind.True : parts.ContainsKey(Texts[1].Encoder));

        void Require(string part, params string[] classes)
        {
            if (!parts.TryGetValue(part, out var its))
                throw new ModelConfigException($"{index}: names no {part}. Point to the folder of a whole Stable Diffusion 1, 2 or XL pipeline.");
            if (classes.Length > 0 && !classes.Contains(its))
                throw new ModelConfigException($"{index}: {part} is {its}. Supported here: {string.Join(", ", classes)}.");
        }
    }

    /// <summary>The schedule that the folder names.</summary>
    public SchedulerConfig ReadScheduler() => Predicting(SchedulerConfig.Read(In(SchedulerPart, "scheduler_config.json")), _prediction);

    /// <inheritdoc/>
    public override StableDiffusionConfig ReadConfig() => new(
        [.. Texts.Take(TextEncoderCount).Select(t => ReadTextConfig(t.Encoder))], UNet2DConditionConfig.Read(In(UnetPart, ConfigFile)), AutoencoderKLConfig.Read(In(VaePart, ConfigFile)), ReadScheduler(), ZerosForEmptyPrompt);

    /// <summary>Loads a tokenizer.</summary>
    /// <param name="encoder">Of which text encoder, from 0.</param>
    public ClipTokenizer LoadTokenizer(int encoder = 0) => ClipTokenizer.Load(In(Texts[encoder].Tokenizer));

    /// <inheritdoc/>
    public override IReadOnlyList<ClipTokenizer> LoadTokenizers() => [.. Enumerable.Range(0, TextEncoderCount).Select(LoadTokenizer)];

    /// <summary>Loads a text encoder on the CPU, without gradients of its own.</summary>
    /// <param name="encoder">Which, from 0.</param>
    /// <param name="dtype">Dtype of its weights, in which they are read. Default: float32.</param>
    public ClipTextModel LoadTextEncoder(int encoder = 0, ScalarType dtype = ScalarType.Float32)
    {
        var part = Texts[encoder].Encoder;
        var config = ReadTextConfig(part);
        return Fill(() => new ClipTextModel(config), dtype, part, TextStem, ClipNames.Current);
    }

    /// <inheritdoc/>
    public override UNet2DConditionModel LoadUnet(ScalarType dtype = ScalarType.Float32)
    {
        var config = UNet2DConditionConfig.Read(In(UnetPart, ConfigFile));
        return Fill(() => new UNet2DConditionModel(config), dtype, UnetPart, DiffusersStem, AttentionNames.Current);
    }

    /// <summary>Loads the autoencoder on the CPU, without gradients of its own.</summary>
    /// <param name="dtype">Dtype of its weights, in which they are read; one that overflows in float16 (<c>force_upcast</c>) stays in float32. Default: float32.</param>
    public AutoencoderKL LoadAutoencoder(ScalarType dtype = ScalarType.Float32)
    {
        var config = AutoencoderKLConfig.Read(In(VaePart, ConfigFile));
        return Fill(() => new AutoencoderKL(config), config.DtypeFor(dtype), VaePart, DiffusersStem, AttentionNames.Current);
    }

    /// <inheritdoc/>
    public override StableDiffusionModel Load(Device? device = null, ScalarType dtype = ScalarType.Float32)
    {
        var loaded = new List<nn.Module>();
        try
        {
            // What is small and most often wrong comes first, and whether the parts fit together is seen before gigabytes are read.
            var config = ReadConfig();
            var tokenizers = LoadTokenizers();
            StableDiffusionModel.Check(tokenizers, config);
            var encoders = Enumerable.Range(0, TextEncoderCount).Select(i => Place(LoadTextEncoder(i, dtype))).ToArray();
            var autoencoder = Place(LoadAutoencoder(dtype));
            var unet = Place(LoadUnet(dtype));
            return new StableDiffusionModel(tokenizers, encoders, unet, autoencoder, config.Scheduler) { ZerosForEmptyPrompt = ZerosForEmptyPrompt };
        }
        catch
        {
            loaded.ForEach(m => m.Dispose());
            throw;
        }

        T Place<T>(T network)
            where T : nn.Module
        {
            loaded.Add(network);
            if (device is not null)
                network.to(device);
            return network;
        }
    }

    /// <summary>Writes a folder that diffusers loads, with the weights in the networks' own dtype.</summary>
    /// <param name="path">The folder; made when missing.</param>
    /// <param name="model">What to write. A folded LoRA becomes part of the weights; learnt words do not.</param>
    /// <param name="variant">Variant put into the weights' names, such as <c>fp16</c>. Default: none.</param>
    public static void Save(string path, StableDiffusionModel model, string? variant = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        var suffix = variant is null ? "" : "." + variant;
        var index = new JsonObject { ["_class_name"] = model.IsXl ? "StableDiffusionXLPipeline" : "StableDiffusionPipeline" };
        if (model.IsXl)
            index["force_zeros_for_empty_prompt"] = model.ZerosForEmptyPrompt;
        for (var i = 0; i < model.TextEncoders.Count; i++)
        {
            var (encoder, tokenizer) = Texts[i];
            index[encoder] = new JsonArray("transformers", model.TextEncoders[i].Config.Projects ? "CLIPTextModelWithProjection" : "CLIPTextModel");
            index[tokenizer] = new JsonArray("transformers", "CLIPTokenizer");
            model.TextEncoders[i].Config.Write(System.IO.Path.Combine(path, encoder, ConfigFile));
            ModuleWeights.Save(model.TextEncoders[i], System.IO.Path.Combine(path, encoder, $"model{suffix}.safetensors"));
            model.Tokenizers[i].Save(System.IO.Path.Combine(path, tokenizer));
        }

        index[UnetPart] = new JsonArray("diffusers", nameof(UNet2DConditionModel));
        model.Unet.Config.Write(System.IO.Path.Combine(path, UnetPart, ConfigFile));
        ModuleWeights.Save(model.Unet, System.IO.Path.Combine(path, UnetPart, $"{DiffusersStem}{suffix}.safetensors"));
        index[VaePart] = new JsonArray("diffusers", nameof(AutoencoderKL));
        model.Autoencoder.Config.Write(System.IO.Path.Combine(path, VaePart, ConfigFile));
        ModuleWeights.Save(model.Autoencoder, System.IO.Path.Combine(path, VaePart, $"{DiffusersStem}{suffix}.safetensors"));
        index[SchedulerPart] = new JsonArray("diffusers", model.Scheduler.ClassName);
        model.Scheduler.Write(System.IO.Path.Combine(path, SchedulerPart, "scheduler_config.json"));
        index["safety_checker"] = new JsonArray(null, null);
        index["feature_extractor"] = new JsonArray(null, null);
        ModelConfig.Write(System.IO.Path.Combine(path, "model_index.json"), index);
    }

    /// <summary>This folder, with a network that predicts what is said and not what its scheduler has.</summary>
    internal StableDiffusionFolder Predicting(string? prediction)
    {
        _ = Predicting(new SchedulerConfig(), prediction);
        return new(Path, _variant, _parts, ZerosForEmptyPrompt) { _prediction = prediction };
    }

    /// <summary>The file, or the index, with each network's weights.</summary>
    internal IEnumerable<(string Part, string File)> WeightFilesByPart() =>
        Texts.Take(TextEncoderCount).Select(t => (t.Encoder, TextStem)).Append((UnetPart, DiffusersStem)).Append((VaePart, DiffusersStem)).Select(p => (p.Item1, WeightFiles.Find(In(p.Item1), p.Item2, _variant)));

    // The index knows better than the configuration, which often names no class.
    private ClipTextConfig ReadTextConfig(string part) => ClipTextConfig.Read(In(part, ConfigFile)) with { Architectures = [_parts[part]] };

    private string In(params string[] names) => System.IO.Path.Combine([Path, .. names]);

    private T Fill<T>(Func<T> make, ScalarType dtype, string part, string stem, Func<string, string?> rename)
        where T : nn.Module => Layers.Constant(ModuleWeights.Loaded(make, WeightFiles.Find(In(part), stem, _variant), rename, dtype));
}
