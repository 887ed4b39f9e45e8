using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.Transformers;
using AdjointDpm.Models.Vae;
using AdjointDpm.Samplers;
using AdjointDpm.Tests.Formats;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Stable Diffusion 3 from prompts to pictures, without T5, in small with random weights.</summary>
public sealed class StableDiffusion3Tests
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>What diffusers hands to the transformer where text_encoder_3 is None.</summary>
    [Fact]
    public void Encode_PutsBothTextsSideBySide_AndZerosWhereT5Would()
    {
        using var scope = NewDisposeScope();
        using var model = Make();
        using var prompt = model.Encode(["a fox", ""]);
        var length = model.Tokenizers[0].Length;
        Assert.Equal([2L, 2 * length, 40], prompt.States.shape);
        Assert.Equal([2L, 17], prompt.Pooled!.shape);
        var at = 0L;
        for (var i = 0; i < 2; i++)
        {
            var states = model.TextEncoders[i].Encode(model.Tokenizers[i].EncodePadded(["a fox", ""]));
            var width = states.LastHiddenState.shape[2];
            Assert.True(prompt.States.narrow(1, 0, length).narrow(2, at, width).Equals(states.HiddenStates[^2]));
            at += width;
        }

        Assert.Equal(0, prompt.States.narrow(2, at, 40 - at).abs().sum().Number() + prompt.States.narrow(1, length, length).abs().sum().Number());
    }

    [Fact]
    public void Folder_Whole_IsWrittenReadAndDrawnAlike()
    {
        using var scope = NewDisposeScope();
        using var folder = new TemporaryFolder();
        using var model = Make();
        StableDiffusion3Folder.Save(folder.Path, model);
        using var again = StableDiffusion3Folder.Open(folder.Path).Load();
        Assert.True(Draw(model).Equals(Draw(again)));
        Assert.Equal([1L, 3, 24, 16], Draw(again).shape);
        File.Delete(folder["text_encoder_2/model.safetensors"]);
        Assert.Contains("text_encoder_2", Assert.Throws<AdjointDpm.Formats.SafetensorsException>(() => StableDiffusion3Folder.Open(folder.Path).Load()).Message, StringComparison.Ordinal);
        Assert.Contains("multiples of 4 up to that", Assert.Throws<ArgumentException>(() => model.Noise(1, 26, 16, new(1))).Message, StringComparison.Ordinal);
        Assert.Contains("pooled_projection_dim 10", Assert.Throws<ModelConfigException>(() => new StableDiffusion3Model(model.Tokenizers, model.TextEncoders, new(model.Transformer.Config with { PooledProjectionDim = 10 }), model.Autoencoder, model.Scheduler)).Message, StringComparison.Ordinal);

        static Tensor Draw(StableDiffusion3Model model)
        {
            using var prompt = model.Encode(["a fox"]);
            using var negative = model.Encode([""]);
            using var frozen = no_grad();
            using var drawn = Sampling.Sample(model.Request(model.Field(prompt, negative, 3), model.Noise(1, 24, 16, new(2)), 3), Token);
            return model.Decode(drawn.Sample);
        }
    }

    /// <summary>From the text's states through guided steps and the decoder to a loss of the picture.</summary>
    [Fact]
    public void Gradient_OfThePictureByNoiseAndPrompt_IsTheUnrolledOne_AndDifferences()
    {
        using var scope = NewDisposeScope();
        using var model = Make();
        foreach (var network in (nn.Module[])[.. model.TextEncoders, model.Transformer, model.Autoencoder])
            network.to(float64);
        using var prompt = model.Encode(["a fox"]);
        using var negative = model.Encode([""]);
        var field = model.Field(prompt, negative, 3).With("states", prompt.States).With("pooled", prompt.Pooled!);
        var request = model.Request(field, model.Noise(1, 16, 24, new(2), float64), 3);
        Tensor Loss(Tensor x) => model.Decode(x).sin().mean();
        using var discrete = Sampling.Differentiate(request, Loss, GradientMethod.Discrete, Token);
        using var unrolled = Sampling.Differentiate(request, Loss, GradientMethod.StoreAll, Token);
        Reference.Close(unrolled.Noise, discrete.Noise, "noise", 1e-12);
        foreach (var (name, value) in unrolled.Inputs)
            Reference.Close(value, discrete.Inputs[name], name, 1e-12);
        using var frozen = no_grad();
        var direction = CounterNoise.Normal(new(9), prompt.States.shape, float64);
        var before = prompt.States.clone();
        double At(double h)
        {
            using Scalar step = h;
            prompt.States.copy_(before.add(direction, step));
            using var drawn = Sampling.Sample(request, Token);
            return Loss(drawn.Sample).Number();
        }

        var (slope, expected) = ((At(1e-5) - At(-1e-5)) / 2e-5, discrete.Inputs["states"].mul(direction).sum().Number());
        Assert.Equal(expected, slope, 1e-6 * Math.Max(Math.Abs(expected), 1e-3));
    }

    private static StableDiffusion3Model Make()
    {
        var text = new ClipTextConfig { VocabSize = 747, HiddenSize = 12, IntermediateSize = 24, NumHiddenLayers = 3, NumAttentionHeads = 3, EosTokenId = 2, ProjectionDim = 7, Architectures = ["CLIPTextModelWithProjection"] };
        var second = text with { HiddenSize = 16, IntermediateSize = 20, NumAttentionHeads = 4, HiddenAct = "gelu", ProjectionDim = 10, NumHiddenLayers = 4 };
        var transformer = new SD3TransformerConfig { SampleSize = 8, InChannels = 4, OutChannels = 4, NumLayers = 2, NumAttentionHeads = 2, AttentionHeadDim = 8, JointAttentionDim = 40, CaptionProjectionDim = 16, PooledProjectionDim = 17, PosEmbedMaxSize = 8, QkNorm = "rms_norm", DualAttentionLayers = [0] };
        var vae = new AutoencoderKLConfig { BlockOutChannels = [8, 12], DownBlockTypes = ["DownEncoderBlock2D", "DownEncoderBlock2D"], UpBlockTypes = ["UpDecoderBlock2D", "UpDecoderBlock2D"], NormNumGroups = 4, ScalingFactor = 1.5305, ShiftFactor = 0.0609, UseQuantConv = false, UsePostQuantConv = false };
        return new(
            [ClipTokenizer.Load(ReferenceFolder.Of("clip_tokenizer")), ClipTokenizer.Load(ReferenceFolder.Of("clip_tokenizer"))],
            [TinyModels.Filled(new ClipTextModel(text), 1, 0), TinyModels.Filled(new ClipTextModel(second), 1, 1)],
            TinyModels.Filled(new SD3Transformer2DModel(transformer), 1, 2), TinyModels.Filled(new AutoencoderKL(vae), 1, 3),
            new() { ClassName = "FlowMatchEulerDiscreteScheduler", Shift = 3 });
    }
}
