using AdjointDpm.Formats;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.Unet;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>A Stable Diffusion 1, 2 or XL model on disk, as people have it: a folder of diffusers, or one safetensors file.</summary>
public abstract class StableDiffusionSource
{
    /// <summary>The folder or file.</summary>
    public abstract string Path { get; }

    /// <summary>Opens a folder or file; weights are not read yet.</summary>
    /// <param name="path">The folder of a diffusers pipeline, or a single-file checkpoint.</param>
    /// <param name="prediction">What the network predicts, <c>epsilon</c> or <c>v_prediction</c>, for files that do not say. Default: as the file or folder has it.</param>
    /// <exception cref="ModelConfigException">There is nothing, or a folder that is no pipeline of these.</exception>
    /// <exception cref="SafetensorsException">The file is no such checkpoint.</exception>
    /// <exception cref="ArgumentException"><paramref name="prediction"/> is none of the two.</exception>
    public static StableDiffusionSource At(string path, string? prediction = null) => File.Exists(path) ? new StableDiffusionFile(path, prediction) : StableDiffusionFolder.Open(path).Predicting(prediction);

    /// <summary>The configurations of all parts; weights are not looked at.</summary>
    /// <exception cref="ModelConfigException">A configuration is missing, malformed or not supported.</exception>
    public abstract StableDiffusionConfig ReadConfig();

    /// <summary>Loads the tokenizers, one for each text encoder.</summary>
    /// <exception cref="ModelConfigException">One is missing or malformed.</exception>
    public abstract IReadOnlyList<ClipTokenizer> LoadTokenizers();

    /// <summary>Loads the diffusion network alone, on the CPU, without gradients of its own.</summary>
    /// <param name="dtype">Dtype of its weights, in which they are read. Default: float32.</param>
    /// <exception cref="SafetensorsException">Weights are missing or do not fit. Nothing stays loaded.</exception>
    public abstract UNet2DConditionModel LoadUnet(ScalarType dtype = ScalarType.Float32);

    /// <summary>Loads everything.</summary>
    /// <param name="device">Where to. Default: the CPU.</param>
    /// <param name="dtype">Dtype of the networks; an autoencoder that overflows in float16 (<c>force_upcast</c>) stays in float32. Default: float32.</param>
    /// <exception cref="ModelConfigException">A configuration or the tokenizer is missing, malformed or not supported.</exception>
    /// <exception cref="SafetensorsException">Weights are missing or do not fit. Nothing stays loaded.</exception>
    public abstract StableDiffusionModel Load(Device? device = null, ScalarType dtype = ScalarType.Float32);

    /// <exception cref="ArgumentException">The name is of no prediction that Stable Diffusion has.</exception>
    internal static SchedulerConfig Predicting(SchedulerConfig scheduler, string? prediction) => prediction switch
    {
        null => scheduler,
        "epsilon" or "v_prediction" => scheduler with { PredictionType = prediction },
        _ => throw new ArgumentException($"'{prediction}' is no prediction of these networks. Choose epsilon or v_prediction.", nameof(prediction)),
    };
}

/// <summary>A single-file checkpoint as a model of its own: configurations are the released model's with what the file says, tokenizers CLIP's.</summary>
internal sealed class StableDiffusionFile : StableDiffusionSource
{
    private readonly StableDiffusionConfig _config;

    public StableDiffusionFile(string path, string? prediction)
    {
        Path = path;
        _config = SingleFileCheckpoint.ReadConfig(path, prediction: prediction);
    }

    public override string Path { get; }

    public override StableDiffusionConfig ReadConfig() => _config;

    public override IReadOnlyList<ClipTokenizer> LoadTokenizers()
    {
        // OpenCLIP, of Stable Diffusion 2 and the second of XL, pads with the first token.
        ClipTokenizer[] tokenizers = _config.Kind switch
        {
            SingleFileKind.Sd1 => [ClipTokenizer.OpenAi()],
            SingleFileKind.Sd2 => [ClipTokenizer.OpenAi("!")],
            _ => [ClipTokenizer.OpenAi(), ClipTokenizer.OpenAi("!")],
        };
        return _config.TextEncoders.FirstOrDefault(t => t.VocabSize < tokenizers[0].VocabularySize) is not { } other ? tokenizers
            : throw new SafetensorsException(Path, null, $"has a text encoder of {other.VocabSize} tokens, and not CLIP's {tokenizers[0].VocabularySize}: its tokenizer is not in the file. Use the folder of its model, or convert it to one with --model MODEL-FOLDER.");
    }

    public override UNet2DConditionModel LoadUnet(ScalarType dtype = ScalarType.Float32) => SingleFileCheckpoint.LoadUnet(Path, _config, dtype);

    public override StableDiffusionModel Load(Device? device = null, ScalarType dtype = ScalarType.Float32)
    {
        var model = SingleFileCheckpoint.Load(Path, LoadTokenizers(), _config, dtype, _config.Scheduler.PredictionType);
        if (device is not null)
        {
            foreach (var network in model.Networks)
                network.to(device);
        }

        return model;
    }
}
