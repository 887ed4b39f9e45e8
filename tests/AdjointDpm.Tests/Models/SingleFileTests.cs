using AdjointDpm.Formats;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Tests.Formats;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

public sealed class SingleFileTests
{
    public static TheoryData<string> Kinds => [.. TinyModels.Kinds];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Checkpoint_AfterSave_IsDetectedAndLoadsEqual(string kind)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var saved = TinyModels.Make(kind);
        SingleFileCheckpoint.Save(folder["model.safetensors"], saved, new Dictionary<string, string> { ["modelspec.title"] = "tiny" });
        Assert.Equal(Array.IndexOf(TinyModels.Kinds, kind), (int)SingleFileCheckpoint.Detect(folder["model.safetensors"]));
        using var loaded = SingleFileCheckpoint.Load(folder["model.safetensors"], saved.Tokenizers, StableDiffusionConfig.Of(saved));
        foreach (var (a, b) in StableDiffusionFolderTests.Networks(saved).Zip(StableDiffusionFolderTests.Networks(loaded)))
            TinyModels.AllWeights(a, b, (x, y) => x.Equals(y));
    }

    /// <summary>What else real files hold is passed over: averaged weights, sampler constants, SD2's last layer; the autoencoder's other prefix is known.</summary>
    [Fact]
    public void Checkpoint_WithWhatRealFilesHold_Loads()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var saved = TinyModels.Make("SD2");
        SingleFileCheckpoint.Save(folder["plain.safetensors"], saved);
        var tensors = Tensors(folder["plain.safetensors"]).ToDictionary(p => p.Key.Replace("first_stage_model.", "vae.", StringComparison.Ordinal), p => p.Value);
        tensors["model_ema.decay"] = ones(1);
        tensors["alphas_cumprod"] = ones(1000);
        tensors["cond_stage_model.model.logit_scale"] = ones([]);
        tensors["cond_stage_model.model.text_projection"] = ones(12, 12);
        tensors["cond_stage_model.model.transformer.resblocks.3.ln_1.weight"] = ones(12);
        SafetensorsWriter.Write(folder["real.safetensors"], tensors);
        using var loaded = SingleFileCheckpoint.Load(folder["real.safetensors"], saved.Tokenizers, StableDiffusionConfig.Of(saved));
        Assert.True(saved.Autoencoder.state_dict()["decoder.mid_block.attentions.0.to_q.weight"].Equals(loaded.Autoencoder.state_dict()["decoder.mid_block.attentions.0.to_q.weight"]));

        tensors["cond_stage_model.model.transformer.resblocks.1.ln_3.weight"] = ones(12);
        SafetensorsWriter.Write(folder["odd.safetensors"], tensors);
        Assert.Contains("ln_3", Assert.Throws<SafetensorsException>(() => SingleFileCheckpoint.Load(folder["odd.safetensors"], saved.Tokenizers, StableDiffusionConfig.Of(saved))).Message, StringComparison.Ordinal);
        tensors.Remove("cond_stage_model.model.transformer.resblocks.1.ln_3.weight");
        tensors["model.diffusion_model.out.2.bias"] = ones(1);
        tensors.Remove("model.diffusion_model.time_embed.0.bias");
        SafetensorsWriter.Write(folder["odd.safetensors"], tensors);
        var message = Assert.Throws<SafetensorsException>(() => SingleFileCheckpoint.Load(folder["odd.safetensors"], saved.Tokenizers, StableDiffusionConfig.Of(saved))).Message;
        Assert.Contains("out.2.bias: file [1], network [4]", message, StringComparison.Ordinal);
        Assert.Contains("time_embed.0.bias", message, StringComparison.Ordinal);
    }

    /// <summary>Merges and conversions have spellings of their own: texts without a level, attention of the autoencoder as linear layers.</summary>
    [Fact]
    public void Checkpoint_OfOtherTools_Loads()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var saved = TinyModels.Make("SD1");
        SingleFileCheckpoint.Save(folder["plain.safetensors"], saved);
        var tensors = Tensors(folder["plain.safetensors"]).ToDictionary(
            p => p.Key.Replace("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.", StringComparison.Ordinal),
            p => p.Key.Contains("attn_1", StringComparison.Ordinal) && p.Value.dim() == 4 ? p.Value.squeeze(-1).squeeze(-1) : p.Value);
        SafetensorsWriter.Write(folder["other.safetensors"], tensors);
        using var loaded = SingleFileCheckpoint.Load(folder["other.safetensors"], saved.Tokenizers, StableDiffusionConfig.Of(saved));
        foreach (var (a, b) in StableDiffusionFolderTests.Networks(saved).Zip(StableDiffusionFolderTests.Networks(loaded)))
            TinyModels.AllWeights(a, b, (x, y) => x.Equals(y));
    }

    /// <summary>A file of another size than the released models says which, and one of this vocabulary needs nothing beside it.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void Checkpoint_OfAnotherSize_LoadsWithoutAFolderOfItsModel(string kind)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var saved = TinyModels.Make(kind, wholeVocabulary: true);
        SingleFileCheckpoint.Save(folder["model.safetensors"], saved);
        using var loaded = StableDiffusionSource.At(folder["model.safetensors"]).Load();
        foreach (var (a, b) in saved.Networks.Zip(loaded.Networks))
            TinyModels.AllWeights(a, b, (x, y) => x.Equals(y));
        Assert.Equal((saved.Scheduler.PredictionType, saved.ZerosForEmptyPrompt), (loaded.Scheduler.PredictionType, loaded.ZerosForEmptyPrompt));
        using var unet = StableDiffusionSource.At(folder["model.safetensors"]).LoadUnet(ScalarType.BFloat16);
        TinyModels.AllWeights(unet, saved.Unet, (x, y) => x.Equals(y.to(ScalarType.BFloat16)));
        using var states = loaded.Encode(["a photo of a fox"]);
        using var expected = saved.Encode(["a photo of a fox"]);
        Assert.True(states.States.Equals(expected.States));
    }

    [Theory]
    [InlineData("SD1", "epsilon", false, null, "epsilon")]
    [InlineData("SDXL", "v_prediction", false, null, "v_prediction")]
    [InlineData("SDXL", "v_prediction", true, null, "v_prediction")]
    [InlineData("SDXL", "v_prediction", true, "epsilon", "epsilon")]
    [InlineData("SD1", "v_prediction", false, null, "v_prediction")]
    [InlineData("SD2", "epsilon", false, null, "epsilon")]
    [InlineData("SD2", "epsilon", false, "v_prediction", "v_prediction")]
    public void Checkpoint_SaysWhatItsNetworkPredicts(string kind, string prediction, bool noSignal, string? asked, string expected)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var made = TinyModels.Make(kind);
        using var saved = new StableDiffusionModel(made.Tokenizers, made.TextEncoders, made.Unet, made.Autoencoder, made.Scheduler with { PredictionType = prediction, RescaleBetasZeroSnr = noSignal });
        SingleFileCheckpoint.Save(folder["a"], saved);
        using (var file = SafetensorsFile.Open(folder["a"]))
        {
            Assert.Equal(prediction == "epsilon" ? "epsilon" : "v", file.Metadata["modelspec.prediction_type"]);
            // By these names interfaces know networks of v; of Stable Diffusion 2 they look at the weights.
            Assert.Equal(prediction == "v_prediction" && kind != "SD2", file.Contains("v_pred"));
            Assert.Equal(noSignal, file.Contains("ztsnr"));
        }

        // What the file says goes before what the folder of another model has.
        var others = StableDiffusionConfig.Of(made) with { Scheduler = made.Scheduler with { PredictionType = prediction == "epsilon" ? "v_prediction" : "epsilon" } };
        using var loaded = SingleFileCheckpoint.Load(folder["a"], saved.Tokenizers, others, prediction: asked);
        Assert.Equal(expected, loaded.Scheduler.PredictionType);
        Assert.Equal(noSignal && expected == "v_prediction", loaded.Scheduler.RescaleBetasZeroSnr);
    }

    /// <summary>Marks without strings, as files of model sites have them; and of Stable Diffusion 2 the weight by which interfaces decide.</summary>
    [Theory]
    [InlineData("conditioner.embedders.1.model.x", "v_pred", 0, "v_prediction")]
    [InlineData("conditioner.embedders.1.model.x", "other", 0, "epsilon")]
    [InlineData("cond_stage_model.transformer.x", "v_pred", 0, "v_prediction")]
    [InlineData("cond_stage_model.model.x", "other", 0.1, "v_prediction")]
    [InlineData("cond_stage_model.model.x", "other", 0.05, "epsilon")]
    public void ReadConfig_FileWithoutStrings_IsReadFromItsTensors(string text, string mark, double deviation, string expected)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        SafetensorsWriter.Write(folder["a"], new Dictionary<string, Tensor>
        {
            ["model.diffusion_model.out.2.bias"] = zeros(4),
            [text] = zeros(1),
            [mark] = zeros(0),
            ["model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"] = tensor(Enumerable.Range(0, 320).Select(i => (float)(i % 2 == 0 ? deviation : -deviation)).ToArray()),
        });
        Assert.Equal(expected, SingleFileCheckpoint.ReadConfig(folder["a"]).Scheduler.PredictionType);
        Assert.Contains("'score'", Assert.Throws<ArgumentException>(() => SingleFileCheckpoint.ReadConfig(folder["a"], prediction: "score")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ReadConfig_OfAnotherModel_IsRefused()
    {
        using var folder = new TemporaryFolder();
        using var saved = TinyModels.Make("SD1");
        using var other = TinyModels.Make("SD2");
        SingleFileCheckpoint.Save(folder["a"], saved);
        Assert.Contains("of Stable Diffusion 2", Assert.Throws<SafetensorsException>(() => SingleFileCheckpoint.ReadConfig(folder["a"], StableDiffusionConfig.Of(other))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("edm_mean", "EDM")]
    [InlineData("model.diffusion_model.joint_blocks.0.context_block.adaLN_modulation.1.bias", "Stable Diffusion 3")]
    [InlineData("double_blocks.0.img_attn.norm.key_norm.scale", "FLUX")]
    [InlineData("conditioner.embedders.0.model.ln_final.weight", "refiner")]
    [InlineData("lora_unet_mid_block_attentions_0_proj_in.alpha", "a LoRA")]
    [InlineData("unet.mid_block.attentions.0.proj_in.lora_A.weight", "a LoRA")]
    [InlineData("model.diffusion_model.out.2.bias", "without its text encoder")]
    [InlineData("conv_in.weight", "no single-file checkpoint")]
    public void Detect_AnotherModel_IsNamed(string tensor, string expected)
    {
        using var folder = new TemporaryFolder();
        using var value = zeros(1);
        SafetensorsWriter.Write(folder["a"], new Dictionary<string, Tensor> { [tensor] = value });
        Assert.Contains(expected, Assert.Throws<SafetensorsException>(() => SingleFileCheckpoint.Detect(folder["a"])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Detect_Pickle_IsRefusedByName()
    {
        using var folder = new TemporaryFolder();
        // What torch.save begins with: a zip file.
        File.WriteAllBytes(folder["v1-5.ckpt"], [0x50, 0x4B, 0x03, 0x04, 0, 0, 8, 8, .. new byte[100]]);
        Assert.Contains("pickle", Assert.Throws<SafetensorsException>(() => SingleFileCheckpoint.Detect(folder["v1-5.ckpt"])).Message, StringComparison.Ordinal);
        // And the older form: a bare pickle.
        File.WriteAllBytes(folder["old.pt"], [0x80, 0x02, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20]);
        Assert.Contains("pickle", Assert.Throws<SafetensorsException>(() => SingleFileCheckpoint.Detect(folder["old.pt"])).Message, StringComparison.Ordinal);
    }

    private static Dictionary<string, Tensor> Tensors(string path)
    {
        using var file = SafetensorsFile.Open(path);
        return file.Names.ToDictionary(n => n, file.Read);
    }
}
