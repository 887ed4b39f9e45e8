using System.Text.Json;
using System.Text.Json.Nodes;
using AdjointDpm.Formats;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Transformers;

/// <summary>The folder of a Stable Diffusion 3 or 3.5 pipeline as diffusers lays it out.</summary>
/// <remarks>Of the three text encoders T5 is not read: <see cref="StableDiffusion3Model"/> does without it, or encode prompts elsewhere and read <c>prompt_embeds</c> and <c>pooled_prompt_embeds</c> by <see cref="PromptEmbeddings.Read"/>.</remarks>
public sealed class StableDiffusion3Folder
{
    private const string Transformer = "transformer", Vae = "vae", Scheduler = "scheduler", ConfigFile = "config.json", IndexFile = "model_index.json", Stem = "diffusion_pytorch_model", SchedulerFile = "scheduler_config.json", WithProjection = "CLIPTextModelWithProjection";

    private static readonly (string Encoder, string Tokenizer)[] Texts = [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")];

    private StableDiffusion3Folder(string path) => Path = path;

    /// <summary>The folder that was opened.</summary>
    public string Path { get; }

    /// <summary>Opens a folder; only its index is read.</summary>
    /// <exception cref="ModelConfigException">The folder or its index is missing or malformed, or its network is of another class.</exception>
    public static StableDiffusion3Folder Open(string path)
    {
        if (!Directory.Exists(path))
            throw DiffusersFolder.Missing(path);
        var index = System.IO.Path.Combine(path, IndexFile);
        var fields = ModelConfig.Read<Dictionary<string, JsonElement>>(index);
        var its = fields.TryGetValue(Transformer, out var value) && value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 2 ? value[1].ToString() : null;
        return its == nameof(SD3Transformer2DModel) ? new(path)
            : throw new ModelConfigException($"{index}: {(its is null ? "names no transformer" : $"transformer is {its}")}. Point to the folder of a Stable Diffusion 3 or 3.5 pipeline, whose transformer is {nameof(SD3Transformer2DModel)}.");
    }

    /// <summary>Loads everything but T5.</summary>
    /// <param name="device">Where to. Default: the CPU.</param>
    /// <param name="dtype">Dtype of the networks; an autoencoder that overflows in float16 (<c>force_upcast</c>) stays in float32. Default: float32.</param>
    /// <exception cref="ModelConfigException">A configuration or a tokenizer is missing, malformed or not supported, or the parts belong to different models.</exception>
    /// <exception cref="SafetensorsException">Weights are missing or do not fit. Nothing stays loaded.</exception>
    public StableDiffusion3Model Load(Device? device = null, ScalarType dtype = ScalarType.Float32)
    {
        var loaded = new List<nn.Module>();
        try
        {
            // What is small and most often wrong comes first.
            var scheduler = ReadScheduler();
            var tokenizers = Texts.Select(t => ClipTokenizer.Load(In(t.Tokenizer))).ToArray();
            var encoders = Texts.Select(t => Place(LoadTextEncoder(t.Encoder, dtype))).ToArray();
            return new(tokenizers, encoders, Place(LoadTransformer(dtype)), Place(LoadAutoencoder(dtype)), scheduler);
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

    /// <summary>Loads the transformer on the CPU, without gradients of its own.</summary>
    /// <param name="dtype">Dtype of its weights. Default: float32.</param>
    /// <param name="variant">Variant of the weights, such as <c>fp16</c>. Default: the plain ones, or fp16 where only those are there.</param>
    /// <exception cref="ModelConfigException">The configuration is missing, malformed or not supported.</exception>
    /// <exception cref="SafetensorsException">The weights are missing or do not fit. Nothing stays loaded.</exception>
    public SD3Transformer2DModel LoadTransformer(ScalarType dtype = ScalarType.Float32, string? variant = null)
    {
        var config = ReadConfig();
        return Layers.Constant(ModuleWeights.Loaded(() => new SD3Transformer2DModel(config), WeightsFile(variant), name => name, dtype));
    }

    /// <summary>The transformer's configuration.</summary>
    /// <exception cref="ModelConfigException">It is missing, malformed or for another class.</exception>
    public SD3TransformerConfig ReadConfig() => SD3TransformerConfig.Read(In(Transformer, ConfigFile));

    internal string WeightsFile(string? variant = null) => WeightFiles.Find(In(Transformer), Stem, variant);

    /// <summary>Loads the autoencoder, of 16 channels in the released models, on the CPU, without gradients of its own.</summary>
    /// <param name="dtype">Dtype of its weights; one that overflows in float16 (<c>force_upcast</c>) stays in float32. Default: float32.</param>
    /// <inheritdoc cref="LoadTransformer" path="/exception"/>
    public AutoencoderKL LoadAutoencoder(ScalarType dtype = ScalarType.Float32)
    {
        var config = AutoencoderKLConfig.Read(In(Vae, ConfigFile));
        return Layers.Constant(ModuleWeights.Loaded(() => new AutoencoderKL(config), WeightFiles.Find(In(Vae), Stem), AttentionNames.Current, config.DtypeFor(dtype)));
    }

    /// <summary>The schedule, of flow matching in the released models.</summary>
    /// <exception cref="ModelConfigException">It is missing, malformed or not supported.</exception>
    public SchedulerConfig ReadScheduler() => SchedulerConfig.Read(In(Scheduler, SchedulerFile));

    /// <summary>Writes a folder that diffusers loads, with the weights in the networks' own dtype; its index says that there is no T5.</summary>
    /// <param name="path">The folder; made when missing.</param>
    /// <param name="model">What to write.</param>
    public static void Save(string path, StableDiffusion3Model model)
    {
        ArgumentNullException.ThrowIfNull(model);
        for (var i = 0; i < Texts.Length; i++)
        {
            model.TextEncoders[i].Config.Write(System.IO.Path.Combine(path, Texts[i].Encoder, ConfigFile));
            ModuleWeights.Save(model.TextEncoders[i], System.IO.Path.Combine(path, Texts[i].Encoder, "model.safetensors"));
            model.Tokenizers[i].Save(System.IO.Path.Combine(path, Texts[i].Tokenizer));
        }

        Save(path, model.Transformer, model.Autoencoder, model.Scheduler, hasTexts: true);
    }

    /// <summary>Writes transformer, autoencoder and schedule under diffusers' names, with the weights in the networks' own dtype. The text encoders' folders stay with whoever has them: the index says that there are none.</summary>
    /// <param name="path">The folder; made when missing.</param>
    /// <param name="transformer">The network.</param>
    /// <param name="autoencoder">The autoencoder.</param>
    /// <param name="scheduler">The schedule the network was trained on.</param>
    public static void Save(string path, SD3Transformer2DModel transformer, AutoencoderKL autoencoder, SchedulerConfig scheduler) => Save(path, transformer, autoencoder, scheduler, hasTexts: false);

    private static void Save(string path, SD3Transformer2DModel transformer, AutoencoderKL autoencoder, SchedulerConfig scheduler, bool hasTexts)
    {
        ArgumentNullException.ThrowIfNull(transformer);
        ArgumentNullException.ThrowIfNull(autoencoder);
        ArgumentNullException.ThrowIfNull(scheduler);
        transformer.Config.Write(System.IO.Path.Combine(path, Transformer, ConfigFile));
        ModuleWeights.Save(transformer, System.IO.Path.Combine(path, Transformer, Stem + ".safetensors"));
        autoencoder.Config.Write(System.IO.Path.Combine(path, Vae, ConfigFile));
        ModuleWeights.Save(autoencoder, System.IO.Path.Combine(path, Vae, Stem + ".safetensors"));
        scheduler.Write(System.IO.Path.Combine(path, Scheduler, SchedulerFile));
        var index = new JsonObject
        {
            ["_class_name"] = "StableDiffusion3Pipeline",
            [Scheduler] = new JsonArray("diffusers", scheduler.ClassName),
            [Transformer] = new JsonArray("diffusers", nameof(SD3Transformer2DModel)),
            [Vae] = new JsonArray("diffusers", nameof(AutoencoderKL)),
        };
        foreach (var (encoder, tokenizer) in Texts)
        {
            index[encoder] = hasTexts ? new JsonArray("transformers", WithProjection) : new JsonArray(null, null);
            index[tokenizer] = hasTexts ? new JsonArray("transformers", "CLIPTokenizer") : new JsonArray(null, null);
        }

        (index["text_encoder_3"], index["tokenizer_3"]) = (new JsonArray(null, null), new JsonArray(null, null));
        ModelConfig.Write(System.IO.Path.Combine(path, IndexFile), index);
    }

    // Both project; configurations often name no class.
    private ClipTextModel LoadTextEncoder(string part, ScalarType dtype)
    {
        var config = ClipTextConfig.Read(In(part, ConfigFile)) with { Architectures = [WithProjection] };
        return Layers.Constant(ModuleWeights.Loaded(() => new ClipTextModel(config), WeightFiles.Find(In(part), "model"), ClipNames.Current, dtype));
    }

    private string In(params string[] names) => System.IO.Path.Combine([Path, .. names]);
}

/// <summary>Transformers as noise fields: what a sampler asks for.</summary>
public static class TransformerFields
{
    /// <summary>A network conditioned on text, with classifier-free guidance, predicting the velocity of flow matching. Its parameters are made known by the name <c>transformer</c>: declare or freeze them before differentiating.</summary>
    /// <param name="model">The network; it computes in its own dtype. Not owned, nor are the prompts.</param>
    /// <param name="prompt">The prompts, with pooled states. Declare both tensors with <see cref="NoiseField.With(string, Tensor)"/> to differentiate by them.</param>
    /// <param name="negative">The negative prompts. Default: none, which leaves guidance out.</param>
    /// <param name="guidance">Weight w of v(x, negative) + w (v(x, prompt) − v(x, negative)); 1 is none. Default: 7.</param>
    /// <exception cref="ArgumentException">A prompt has no pooled states.</exception>
    public static NoiseField Field(this SD3Transformer2DModel model, PromptEmbeddings prompt, PromptEmbeddings? negative = null, double guidance = 7)
    {
        ArgumentNullException.ThrowIfNull(prompt);
        var dtype = model.Dtype();
        foreach (var one in new[] { prompt, negative })
        {
            if (one is { Pooled: null })
                throw new ArgumentException("Stable Diffusion 3 is conditioned on pooled states of the text besides the sequence. Pass both.", nameof(prompt));
        }

        var field = negative is null || guidance == 1
            ? NoiseField.From((x, time) => Predict(x, time, prompt))
            : NoiseField.Guided((x, time) => Predict(x, time, negative), (x, time) => Predict(x, time, prompt), guidance);
        return field.Knowing("transformer", model) with { Prediction = Prediction.Flow };

        Tensor Predict(Tensor x, double time, PromptEmbeddings text) =>
            model.forward(x.to(dtype), tensor(time, dtype: float32, device: x.device), text.States.to(dtype), text.Pooled!.to(dtype));
    }
}
