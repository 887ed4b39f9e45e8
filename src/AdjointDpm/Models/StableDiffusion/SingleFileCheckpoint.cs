using AdjointDpm.Formats;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>Which model a single-file checkpoint holds.</summary>
public enum SingleFileKind
{
    /// <summary>Stable Diffusion 1.x.</summary>
    Sd1,

    /// <summary>Stable Diffusion 2.x.</summary>
    Sd2,

    /// <summary>Stable Diffusion XL, the base model.</summary>
    Xl,
}

/// <summary>Stable Diffusion 1, 2 and XL in one safetensors file, as web interfaces and model sites have them.</summary>
/// <remarks>Pickled checkpoints (.ckpt) are not read. Averaged weights (<c>model_ema.</c>) and constants of the sampler are passed over. SD2's last text layer, which it does not use, is left out on reading and absent from written files.</remarks>
public static class SingleFileCheckpoint
{
    private const string FirstText = "cond_stage_model.transformer.", TextLevel = "text_model.";

    /// <summary>Which model a file holds.</summary>
    /// <exception cref="SafetensorsException">The file is none, or holds a model that is not supported; the message names it.</exception>
    public static SingleFileKind Detect(string path)
    {
        using var file = WeightFiles.Open(path);
        return Detect(path, [.. file.Names]);
    }

    /// <summary>Loads a checkpoint on the CPU, without gradients of its own.</summary>
    /// <param name="path">The file.</param>
    /// <param name="tokenizers">The tokenizers, which such files lack: one, or XL's two (OpenAI's, padded by the end token, then OpenCLIP's, padded by "!").</param>
    /// <param name="config">Configurations of the parts. Default: those that the file carries (as this program writes them for models of other sizes), else those of the released model of its kind.</param>
    /// <param name="prediction">What the network predicts, <c>epsilon</c> or <c>v_prediction</c>. Default: what the file says in its strings or by marks that interfaces know, else the configuration.</param>
    /// <param name="dtype">Dtype of the networks; an autoencoder that overflows in float16 (<c>force_upcast</c>) stays in float32. Default: float32.</param>
    /// <exception cref="SafetensorsException">The file is no such checkpoint or does not fit. Nothing stays loaded.</exception>
    public static StableDiffusionModel Load(string path, IReadOnlyList<ClipTokenizer> tokenizers, StableDiffusionConfig? config = null, ScalarType dtype = ScalarType.Float32, string? prediction = null)
    {
        using var file = WeightFiles.Open(path);
        config = ConfigOf(file, config, prediction);
        StableDiffusionModel.Check(tokenizers, config);
        var kind = config.Kind;
        var parts = new List<nn.Module>();
        try
        {
            var unet = Made(() => new UNet2DConditionModel(config.Unet), dtype);
            var autoencoder = Made(() => new AutoencoderKL(config.Autoencoder), config.Autoencoder.DtypeFor(dtype));
            var encoders = config.TextEncoders.Select(c => Made(() => new ClipTextModel(c), dtype)).ToArray();
            // Merges made with old versions of transformers lack a level in the names of Stable Diffusion 1's texts.
            var level = kind == SingleFileKind.Sd1 && !Has(file.Names, FirstText + TextLevel) ? "" : TextLevel;
            var maps = Maps(kind, encoders, unet, autoencoder, Prefix(file), level).ToList();
            // All are checked before the first is filled.
            foreach (var (map, prefix, unused) in maps)
                map.Check(file, prefix, unused);
            foreach (var (map, _, _) in maps)
                map.Fill(file);
            // What was not made in its dtype: normalisations.
            foreach (var part in parts)
                part.to(ReferenceEquals(part, autoencoder) ? config.Autoencoder.DtypeFor(dtype) : dtype);
            return new StableDiffusionModel(tokenizers, encoders, unet, autoencoder, config.Scheduler) { ZerosForEmptyPrompt = config.ZerosForEmptyPrompt };
        }
        catch
        {
            parts.ForEach(p => p.Dispose());
            throw;
        }

        T Made<T>(Func<T> make, ScalarType its)
            where T : nn.Module
        {
            var network = Layers.Blank(its, make);
            parts.Add(network);
            return Layers.Constant(network);
        }
    }

    /// <summary>Loads the diffusion network alone.</summary>
    internal static UNet2DConditionModel LoadUnet(string path, StableDiffusionConfig config, ScalarType dtype)
    {
        using var file = WeightFiles.Open(path);
        var unet = Layers.Constant(Layers.Blank(dtype, () => new UNet2DConditionModel(config.Unet)));
        try
        {
            var (map, prefix, unused) = OfUnet(unet);
            map.Check(file, prefix, unused);
            map.Fill(file);
            unet.to(dtype);
            return unet;
        }
        catch
        {
            unet.Dispose();
            throw;
        }
    }

    /// <summary>The configurations by which a file is loaded: those given, or of the released model of its kind, with what the file says of itself. Weights are not read.</summary>
    /// <param name="path">The file.</param>
    /// <param name="config">Configurations of the parts. Default: those that the file carries (as this program writes them for models of other sizes), else those of the released model of its kind.</param>
    /// <param name="prediction">As for <see cref="Load"/>.</param>
    /// <exception cref="SafetensorsException">The file is no such checkpoint.</exception>
    public static StableDiffusionConfig ReadConfig(string path, StableDiffusionConfig? config = null, string? prediction = null)
    {
        using var file = WeightFiles.Open(path);
        return ConfigOf(file, config, prediction);
    }

    /// <summary>Writes a checkpoint with the weights in the networks' own dtype, and what the network predicts by the names and strings that other programs look for. Tokenizer, all else of the schedule and learnt words have no place in it.</summary>
    /// <param name="path">The file.</param>
    /// <param name="model">What to write; a folded LoRA becomes part of the weights.</param>
    /// <param name="metadata">Strings for the header. Default: none.</param>
    public static void Save(string path, StableDiffusionModel model, IReadOnlyDictionary<string, string>? metadata = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var scope = NewDisposeScope();
        var tensors = new Dictionary<string, Tensor>(StringComparer.Ordinal);
        foreach (var (map, _, _) in Maps(KindOf(model), model.TextEncoders, model.Unet, model.Autoencoder, SingleFileNames.Autoencoder))
            map.AddTo(tensors);
        SingleFilePrediction.AddTo(tensors, model);
        var strings = SingleFilePrediction.Strings(model);
        SingleFileConfig.AddTo(strings, model);
        foreach (var (key, value) in metadata ?? new Dictionary<string, string>())
            strings[key] = value;
        SafetensorsWriter.WriteForTorch(path, tensors, strings);
    }

    private static StableDiffusionConfig ConfigOf(WeightFiles file, StableDiffusionConfig? config, string? prediction)
    {
        var kind = Detect(file.Path, [.. file.Names]);
        config ??= SingleFileConfig.Read(file);
        if (config is not null && config.Kind != kind)
            throw new SafetensorsException(file.Path, null, $"holds {kind.Called()}, but the configurations given for it are of {config.Kind.Called()}. Give none, or those of the same model.");
        return SingleFilePrediction.Applied(config ?? StableDiffusionConfig.Released(kind), file, guesses: config is null, prediction);
    }

    /// <summary>The model's name for people.</summary>
    internal static string Called(this SingleFileKind kind) => kind switch { SingleFileKind.Sd1 => "Stable Diffusion 1", SingleFileKind.Sd2 => "Stable Diffusion 2", _ => "Stable Diffusion XL" };

    internal static SingleFileKind KindOf(StableDiffusionModel model) => StableDiffusionConfig.Of(model).Kind;

    internal static IEnumerable<(WeightMap Map, string Prefix, Func<string, bool> MayBeLeft)> Maps(
        SingleFileKind kind, IReadOnlyList<ClipTextModel> encoders, UNet2DConditionModel unet, AutoencoderKL autoencoder, string autoencoderPrefix, string textLevel = TextLevel)
    {
        yield return OfUnet(unet);
        yield return (new WeightMap(autoencoder, n => SingleFileNames.OfAutoencoder(n, autoencoder.Config, autoencoderPrefix)), autoencoderPrefix, n => n.StartsWith(autoencoderPrefix + "loss.", StringComparison.Ordinal));
        var texts = kind switch
        {
            SingleFileKind.Sd1 => new[] { (Prefix: FirstText, Open: false) },
            SingleFileKind.Sd2 => [("cond_stage_model.model.", true)],
            _ => [("conditioner.embedders.0.transformer.", false), ("conditioner.embedders.1.model.", true)],
        };
        foreach (var (encoder, (prefix, open)) in encoders.Zip(texts))
            yield return (new WeightMap(encoder, n => open ? SingleFileNames.OfOpenClip(n, prefix) : new(n, n.StartsWith(TextLevel, StringComparison.Ordinal) ? prefix + textLevel + n[TextLevel.Length..] : prefix + n, WeightForm.Same)), prefix, n => SingleFileNames.UnusedText(n, encoder.Config));
    }

    private static (WeightMap Map, string Prefix, Func<string, bool> MayBeLeft) OfUnet(UNet2DConditionModel unet) =>
        (new WeightMap(unet, n => new(n, SingleFileNames.Unet + SingleFileNames.OfUnet(n, unet.Config), WeightForm.Same)), SingleFileNames.Unet, _ => false);

    internal static string Prefix(WeightFiles file) => Has(file.Names, SingleFileNames.Autoencoder) ? SingleFileNames.Autoencoder : SingleFileNames.AutoencoderAlone;

    internal static SingleFileKind Detect(string path, IReadOnlyCollection<string> names)
    {
        string? other = Has(names, "model.diffusion_model.joint_blocks.") || Has(names, "joint_blocks.") ? "Stable Diffusion 3"
            : Has(names, "model.diffusion_model.double_blocks.") || Has(names, "double_blocks.") ? "FLUX"
            : Has(names, "conditioner.embedders.0.model.") ? "the refiner of Stable Diffusion XL"
            : names.Contains("edm_mean") || names.Contains("edm_vpred.sigma_max") ? "a network that is told noise levels as in EDM (Playground 2.5, CosXL)"
            : Has(names, "lora_") || names.Any(n => n.EndsWith(".lora_A.weight", StringComparison.Ordinal)) ? "a LoRA"
            : null;
        if (other is not null)
            throw new SafetensorsException(path, null, $"holds {other}. Whole checkpoints of Stable Diffusion 1, 2 and XL (base) are read.");
        if (!Has(names, SingleFileNames.Unet))
            throw new SafetensorsException(path, null, $"holds no tensor '{SingleFileNames.Unet}…', so it is no single-file checkpoint of Stable Diffusion. For a diffusers folder open the folder.");
        return Has(names, "conditioner.embedders.1.model.") ? SingleFileKind.Xl
            : Has(names, "cond_stage_model.model.") ? SingleFileKind.Sd2
            : Has(names, FirstText) ? SingleFileKind.Sd1
            : throw new SafetensorsException(path, null, "holds a diffusion network without its text encoder. Use a whole checkpoint, or a diffusers folder with all parts.");
    }

    private static bool Has(IEnumerable<string> names, string prefix) => names.Any(n => n.StartsWith(prefix, StringComparison.Ordinal));
}
