using AdjointDpm.Models.Clip;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>The configurations of all parts of a Stable Diffusion model, for files that carry none.</summary>
/// <param name="TextEncoders">One, or XL's two.</param>
/// <param name="Unet">The diffusion network.</param>
/// <param name="Autoencoder">The autoencoder.</param>
/// <param name="Scheduler">The noise schedule.</param>
/// <param name="ZerosForEmptyPrompt">Whether no negative prompt means zeros and not the empty text. Default: false.</param>
public sealed record StableDiffusionConfig(IReadOnlyList<ClipTextConfig> TextEncoders, UNet2DConditionConfig Unet, AutoencoderKLConfig Autoencoder, SchedulerConfig Scheduler, bool ZerosForEmptyPrompt = false)
{
    private static readonly SchedulerConfig Schedule = new() { BetaSchedule = "scaled_linear", BetaStart = 0.00085, BetaEnd = 0.012, StepsOffset = 1, SetAlphaToOne = false, TimestepSpacing = "leading", ClipSample = false };

    private static readonly AutoencoderKLConfig Latents = new()
    {
        BlockOutChannels = [128, 256, 512, 512],
        DownBlockTypes = [.. Enumerable.Repeat("DownEncoderBlock2D", 4)],
        UpBlockTypes = [.. Enumerable.Repeat("UpDecoderBlock2D", 4)],
        LayersPerBlock = 2,
        SampleSize = 512,
    };

    private static readonly ClipTextConfig ClipL = new() { HiddenSize = 768, IntermediateSize = 3072, NumAttentionHeads = 12, ProjectionDim = 768, EosTokenId = 2 };

    /// <summary>Stable Diffusion 1.x.</summary>
    public static StableDiffusionConfig Sd1 { get; } = new([ClipL], new UNet2DConditionConfig { SampleSize = 64, CrossAttentionDim = 768 }, Latents, Schedule);

    /// <summary>Stable Diffusion 2.1 of 768 pixels, which predicts v and computes attention weights in float32; for the base models of 512 set the scheduler's prediction_type to epsilon.</summary>
    public static StableDiffusionConfig Sd2 { get; } = new(
        [new ClipTextConfig { HiddenSize = 1024, IntermediateSize = 4096, NumAttentionHeads = 16, NumHiddenLayers = 23, HiddenAct = "gelu", EosTokenId = 2 }],
        new UNet2DConditionConfig { SampleSize = 96, CrossAttentionDim = 1024, UseLinearProjection = true, UpcastAttention = true, AttentionHeadDim = new([5, 10, 20, 20]) },
        Latents with { SampleSize = 768 },
        Schedule with { PredictionType = "v_prediction" });

    /// <summary>Stable Diffusion XL, the base model.</summary>
    public static StableDiffusionConfig Xl { get; } = new(
        [ClipL, new ClipTextConfig { HiddenSize = 1280, IntermediateSize = 5120, NumAttentionHeads = 20, NumHiddenLayers = 32, ProjectionDim = 1280, HiddenAct = "gelu", EosTokenId = 2, Architectures = ["CLIPTextModelWithProjection"] }],
        new UNet2DConditionConfig
        {
            SampleSize = 128,
            BlockOutChannels = [320, 640, 1280],
            DownBlockTypes = ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            UpBlockTypes = ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            TransformerLayersPerBlock = new([1, 2, 10]),
            AttentionHeadDim = new([5, 10, 20]),
            CrossAttentionDim = 2048,
            UseLinearProjection = true,
            AdditionEmbedType = "text_time",
            AdditionTimeEmbedDim = 256,
            ProjectionClassEmbeddingsInputDim = 2816,
        },
        Latents with { SampleSize = 1024, ScalingFactor = 0.13025 },
        Schedule,
        ZerosForEmptyPrompt: true);

    /// <summary>The configurations of a released model.</summary>
    public static StableDiffusionConfig Released(SingleFileKind kind) => kind switch { SingleFileKind.Sd1 => Sd1, SingleFileKind.Sd2 => Sd2, _ => Xl };

    /// <summary>Which of the released models this has the parts of.</summary>
    public SingleFileKind Kind => Unet.AdditionEmbedType == "text_time" ? SingleFileKind.Xl : Unet.UseLinearProjection ? SingleFileKind.Sd2 : SingleFileKind.Sd1;

    /// <summary>Size of pictures in pixels: what is asked for, else what the network was trained on.</summary>
    /// <param name="height">Height asked for; null for none.</param>
    /// <param name="width">Width asked for; null for none.</param>
    /// <param name="advice">How the user gives a size, for the error.</param>
    /// <exception cref="ModelConfigException">None is asked for, and the network's configuration has no <c>sample_size</c>.</exception>
    public (int Height, int Width) SizeOr(int? height, int? width, string advice)
    {
        var trained = Unet.SampleSize?.Values;
        return (height ?? Side(0), width ?? Side(^1));

        int Side(Index at) => Autoencoder.Reduction * (trained?[at] ?? throw new ModelConfigException($"The network's configuration does not say its sample_size. {advice}"));
    }

    /// <summary>The configurations of a loaded model.</summary>
    public static StableDiffusionConfig Of(StableDiffusionModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        return new([.. model.TextEncoders.Select(e => e.Config)], model.Unet.Config, model.Autoencoder.Config, model.Scheduler, model.ZerosForEmptyPrompt);
    }
}
