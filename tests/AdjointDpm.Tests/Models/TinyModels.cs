using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Stable Diffusion 1, 2 and XL in small, with random weights and the small vocabulary.</summary>
internal static class TinyModels
{
    private static readonly Scalar One = 1.0;

    public static readonly string[] Kinds = ["SD1", "SD2", "SDXL"];

    /// <summary>Every weight and buffer of a network beside that of another with its name.</summary>
    public static void AllWeights(nn.Module expected, nn.Module actual, Func<Tensor, Tensor, bool> same)
    {
        var others = actual.state_dict();
        Assert.All(expected.state_dict(), p => Assert.True(same(p.Value, others[p.Key]), p.Key));
    }

    /// <param name="kind">One of <see cref="Kinds"/>.</param>
    /// <param name="seed">Of the weights.</param>
    /// <param name="wholeVocabulary">CLIP's own tokenizers in place of the small one.</param>
    public static StableDiffusionModel Make(string kind, long seed = 1, bool wholeVocabulary = false)
    {
        var text = new ClipTextConfig { VocabSize = wholeVocabulary ? 49408 : 747, HiddenSize = 12, IntermediateSize = 24, NumHiddenLayers = 3, NumAttentionHeads = 3, EosTokenId = 2 };
        var second = text with { HiddenSize = 16, IntermediateSize = 20, NumAttentionHeads = 4, HiddenAct = "gelu", ProjectionDim = 10, Architectures = ["CLIPTextModelWithProjection"], NumHiddenLayers = 4 };
        ClipTextConfig[] texts = kind switch
        {
            "SD1" => [text],
            "SD2" => [text with { HiddenAct = "gelu" }],
            _ => [text, second],
        };
        var unet = new UNet2DConditionConfig
        {
            BlockOutChannels = [8, 16],
            DownBlockTypes = ["CrossAttnDownBlock2D", "DownBlock2D"],
            UpBlockTypes = ["UpBlock2D", "CrossAttnUpBlock2D"],
            LayersPerBlock = 2,
            NormNumGroups = 4,
            AttentionHeadDim = 2,
            CrossAttentionDim = 12,
        };
        unet = kind switch
        {
            "SD1" => unet,
            "SD2" => unet with { AttentionHeadDim = new OneOrMany([2, 4]), UseLinearProjection = true },
            _ => unet with
            {
                BlockOutChannels = [8, 16, 16],
                DownBlockTypes = ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
                UpBlockTypes = ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
                AttentionHeadDim = new OneOrMany([1, 2, 4]),
                TransformerLayersPerBlock = new OneOrMany([1, 1, 2]),
                UseLinearProjection = true,
                CrossAttentionDim = 28,
                AdditionEmbedType = "text_time",
                AdditionTimeEmbedDim = 6,
                ProjectionClassEmbeddingsInputDim = 10 + (6 * 6),
            },
        };
        var vae = new AutoencoderKLConfig
        {
            BlockOutChannels = [8, 12],
            DownBlockTypes = ["DownEncoderBlock2D", "DownEncoderBlock2D"],
            UpBlockTypes = ["UpDecoderBlock2D", "UpDecoderBlock2D"],
            NormNumGroups = 4,
            LayersPerBlock = 1,
            ScalingFactor = kind == "SDXL" ? 0.13025 : 0.18215,
        };
        var scheduler = new SchedulerConfig { BetaSchedule = "scaled_linear", BetaStart = 0.00085, BetaEnd = 0.012, StepsOffset = 1, SetAlphaToOne = false, PredictionType = kind == "SD2" ? "v_prediction" : "epsilon" };
        var tokenizers = texts.Select((_, i) => wholeVocabulary ? ClipTokenizer.OpenAi(kind == "SD2" || i == 1 ? "!" : "<|endoftext|>") : ClipTokenizer.Load(ReferenceFolder.Of("clip_tokenizer"))).ToArray();
        var model = new StableDiffusionModel(tokenizers, [.. texts.Select((t, i) => Filled(new ClipTextModel(t), seed, i))], Filled(new UNet2DConditionModel(unet), seed, 2), Filled(new AutoencoderKL(vae), seed, 3), scheduler) { ZerosForEmptyPrompt = kind == "SDXL" };
        return model;
    }

    /// <summary>An unconditional network of 3.9 million random weights on four channels: large enough for its graph to be measured.</summary>
    public static UNet2DModel Unet()
    {
        var unet = new UNet2DModel(new()
        {
            InChannels = 4,
            OutChannels = 4,
            BlockOutChannels = [64, 128],
            DownBlockTypes = ["DownBlock2D", "AttnDownBlock2D"],
            UpBlockTypes = ["AttnUpBlock2D", "UpBlock2D"],
            LayersPerBlock = 2,
            AttentionHeadDim = 32,
        });
        unet.eval();
        return unet;
    }

    /// <summary>Every number its own, none of the values that networks begin with, and the same whatever other tests draw meanwhile.</summary>
    public static T Filled<T>(T network, long seed, int part)
        where T : nn.Module
    {
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        network.eval();
        var place = 0u;
        foreach (var (name, parameter) in network.named_parameters())
        {
            parameter.requires_grad = false;
            var shape = parameter.shape;
            var noise = CounterNoise.Normal(new NoiseKey((ulong)seed, place++, (ushort)part), shape);
            var spread = shape.Length > 1 ? 1 / Math.Sqrt(shape[1..].Aggregate(1L, (a, b) => a * b)) : 0.1;
            var middle = shape.Length == 1 && name.EndsWith("weight", StringComparison.Ordinal) ? 1.0 : 0;
            using var scale = spread.ToScalar();
            parameter.copy_(noise.mul_(scale).add_(tensor(middle, dtype: float32), One));
        }

        return network;
    }
}
