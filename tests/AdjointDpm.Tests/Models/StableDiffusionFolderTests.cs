using System.Text.Json.Nodes;
using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Samplers;
using AdjointDpm.Tests.Formats;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

public sealed class StableDiffusionFolderTests
{
    public static TheoryData<string> Kinds => [.. TinyModels.Kinds];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Folder_AfterSave_LoadsEqualAndRunsFromTextToGradient(string kind)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var saved = TinyModels.Make(kind);
        StableDiffusionFolder.Save(folder.Path, saved);
        var opened = StableDiffusionFolder.Open(folder.Path);
        using (var loaded = opened.Load())
        {
            Assert.Equal(kind == "SDXL", loaded.IsXl);
            Assert.Equal(saved.Scheduler, loaded.Scheduler);
            foreach (var (a, b) in Networks(saved).Zip(Networks(loaded)))
                TinyModels.AllWeights(a, b, (x, y) => x.Equals(y));
            using var one = saved.Encode(["a photo of a cat"]);
            using var two = loaded.Encode(["a photo of a cat"]);
            Assert.True(one.States.Equals(two.States));
            Assert.Equal(kind == "SDXL", two.Pooled is not null);
        }

        StableDiffusionRuns.TextToLossAndBack(opened, steps: 2, size: 16);
    }

    [Fact]
    public void Folder_HalfVariantAndShards_LoadWhatTheySay()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        StableDiffusionFolder.Save(folder.Path, model);
        var unet = Path.Combine(folder["unet"], "diffusion_pytorch_model.safetensors");
        // In two shards with an index of a variant, as diffusers names them.
        var weights = model.Unet.state_dict().ToDictionary(p => p.Key, p => p.Value.to(float16));
        var (first, second) = ("diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "diffusion_pytorch_model.fp16-00002-of-00002.safetensors");
        var names = weights.Keys.ToList();
        SafetensorsWriter.Write(Path.Combine(folder["unet"], first), weights.Where((_, i) => i % 2 == 0).ToDictionary());
        SafetensorsWriter.Write(Path.Combine(folder["unet"], second), weights.Where((_, i) => i % 2 == 1).ToDictionary());
        File.WriteAllText(Path.Combine(folder["unet"], "diffusion_pytorch_model.safetensors.index.fp16.json"),
            System.Text.Json.JsonSerializer.Serialize(new { weight_map = names.Select((n, i) => (n, i % 2 == 0 ? first : second)).ToDictionary(p => p.n, p => p.Item2) }));
        using (var plain = StableDiffusionFolder.Open(folder.Path).LoadUnet())
            Assert.True(plain.state_dict()["conv_in.weight"].Equals(model.Unet.state_dict()["conv_in.weight"]));
        var half = StableDiffusionFolder.Open(folder.Path, "fp16");
        using (var loaded = half.LoadUnet())
            Assert.True(loaded.state_dict()["conv_in.weight"].Equals(weights["conv_in.weight"].to(float32)));
        Assert.Contains("model.fp16.safetensors", Assert.Throws<SafetensorsException>(() => half.LoadTextEncoder()).Message, StringComparison.Ordinal);

        // Where only pickles are there, the message says so.
        File.Delete(unet);
        File.WriteAllText(Path.Combine(folder["unet"], "diffusion_pytorch_model.bin"), "");
        Assert.Contains("pickled 'diffusion_pytorch_model.bin'", Assert.Throws<SafetensorsException>(() => StableDiffusionFolder.Open(folder.Path, "ema").LoadUnet()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Folder_InHalfPrecision_StillMakesAPicture()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        using var saved = TinyModels.Make("SD1");
        StableDiffusionFolder.Save(folder.Path, saved);
        var opened = StableDiffusionFolder.Open(folder.Path);
        using var half = opened.Load(dtype: ScalarType.BFloat16);
        Assert.Equal(ScalarType.BFloat16, half.Autoencoder.parameters().First().dtype);
        using var prompt = half.Encode(["a cat"]);
        using var result = AdjointDpm.Gradients.Sampling.Sample(half.Request(half.Field(prompt), half.Noise(1, 8, 8, new NoiseKey(1)), 2), TestContext.Current.CancellationToken);
        var image = half.Decode(result.Sample);
        Assert.Equal(float32, image.dtype);
        Assert.Equal([1L, 3, 8, 8], image.shape);
        using var float16Model = opened.Load(dtype: ScalarType.Float16);
        Assert.Equal(float32, float16Model.Autoencoder.parameters().First().dtype);
    }

    [Fact]
    public void Encode_SkippedLayers_AreNormalisedForSd1AndRawForXl()
    {
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        using var one = TinyModels.Make("SD1");
        var ids = one.Tokenizers[0].EncodePadded(["a red square"]);
        var states = one.TextEncoders[0].Encode(ids);
        using var last = one.Encode(["a red square"]);
        using var skipped = one.Encode(["a red square"], skipLayers: 1);
        Assert.True(last.States.Equals(states.LastHiddenState));
        Assert.True(skipped.States.Equals(one.TextEncoders[0].Normalise(states.HiddenStates[^2])));
        Assert.Throws<ArgumentOutOfRangeException>(() => one.Encode(["a"], skipLayers: 3));

        using var xl = TinyModels.Make("SDXL");
        using var both = xl.Encode(["a red square"]);
        var second = xl.TextEncoders[1].Encode(xl.Tokenizers[1].EncodePadded(["a red square"]));
        Assert.True(both.States[.., .., 12..].Equals(second.HiddenStates[^2]));
        Assert.True(both.Pooled!.Equals(second.Pooled));
        using var nothing = xl.EncodeNothing(2);
        Assert.Equal(0, nothing.States.abs().sum().Number() + nothing.Pooled!.abs().sum().Number());
        Assert.Contains("size", Assert.Throws<ArgumentException>(() => xl.Field(both)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AddWord_IsSeenInPromptsAndReceivesGradients()
    {
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SDXL");
        var (clipL, clipG) = (randn(2, 12).requires_grad_(), randn(2, 16).requires_grad_());
        model.AddWord("<fox>", clipL, clipG);
        model.AddWord("<fox>s", randn(1, 12), randn(1, 16));
        var ids = model.Tokenizers[0].Encode("a <fox> and <fox>s");
        Assert.Equal([746, 747, 748], ids.Where(i => i >= model.Tokenizers[0].VocabularySize));
        using var prompt = model.Encode(["a <fox>"]);
        autograd.backward([prompt.States.sum()], inputs: [clipL, clipG]);
        Assert.True(clipL.grad!.abs().sum().Number() > 0 && clipG.grad!.abs().sum().Number() > 0);
        using var other = model.Encode(["a fox"]);
        Assert.False(prompt.States.allclose(other.States));
        Assert.Contains("already", Assert.Throws<ArgumentException>(() => model.AddWord("<fox>", clipL, clipG)).Message, StringComparison.Ordinal);
        Assert.Contains("another model", Assert.Throws<ArgumentException>(() => model.AddWord("<cat>", clipG, clipL)).Message, StringComparison.Ordinal);
        Assert.Contains("text encoders", Assert.Throws<ArgumentException>(() => model.AddWord("<cat>", clipL)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"_class_name":"StableDiffusionPipeline"}""", "names no unet")]
    [InlineData("""{"unet":["diffusers","UNetSpatioTemporalConditionModel"],"vae":["diffusers","AutoencoderKL"]}""", "UNetSpatioTemporalConditionModel")]
    [InlineData("""{"unet":["diffusers","UNet2DConditionModel"],"vae":["diffusers","AutoencoderTiny"]}""", "AutoencoderTiny")]
    [InlineData("""{"unet":["diffusers","FlaxUNet2DConditionModel"],"vae":["diffusers","FlaxAutoencoderKL"],"scheduler":["diffusers","FlaxDDIMScheduler"],"text_encoder":["transformers","T5EncoderModel"]}""", "T5EncoderModel")]
    [InlineData("""{""", "model_index.json")]
    [InlineData("""[]""", "model_index.json")]
    public void Open_IndexThatIsNotOurs_SaysWhatIsWrong(string index, string expected)
    {
        using var folder = new TemporaryFolder();
        Assert.Contains("model_index.json", Assert.Throws<ModelConfigException>(() => StableDiffusionFolder.Open(folder.Path)).Message, StringComparison.Ordinal);
        File.WriteAllText(folder["model_index.json"], index);
        Assert.Contains(expected, Assert.Throws<ModelConfigException>(() => StableDiffusionFolder.Open(folder.Path)).Message, StringComparison.Ordinal);
    }

    /// <summary>XL's pipelines have zeros in place of an empty prompt where their index does not say otherwise.</summary>
    [Theory]
    [InlineData("SDXL", null, true)]
    [InlineData("SDXL", "false", false)]
    [InlineData("SD1", null, false)]
    public void Folder_IndexWithoutZeros_HasThoseOfItsClass(string kind, string? said, bool expected)
    {
        using var folder = new TemporaryFolder();
        using var saved = TinyModels.Make(kind);
        StableDiffusionFolder.Save(folder.Path, saved);
        var index = JsonNode.Parse(File.ReadAllText(folder["model_index.json"]))!.AsObject();
        index.Remove("force_zeros_for_empty_prompt");
        if (said is not null)
            index["force_zeros_for_empty_prompt"] = JsonNode.Parse(said);
        File.WriteAllText(folder["model_index.json"], index.ToJsonString());
        Assert.Equal(expected, StableDiffusionFolder.Open(folder.Path).ZerosForEmptyPrompt);
    }

    /// <summary>A network for inpainting, or one with classes, is refused by what its configuration says: there are no weights to read here.</summary>
    [Theory]
    [InlineData("in_channels", "9", "inpainting")]
    [InlineData("num_class_embeds", "1000", "classes")]
    [InlineData("cross_attention_dim", "1024", "different models")]
    [InlineData("cross_attention_dim", "null", "cross_attention_dim")]
    [InlineData("attention_head_dim", "null", "attention_head_dim")]
    [InlineData("block_out_channels", "null", "block_out_channels")]
    [InlineData("act_fn", "null", "act_fn")]
    [InlineData("layers_per_block", "null", "layers_per_block")]
    public void Load_ConfigurationThatCannotBe_IsRefusedBeforeWeightsAreRead(string field, string value, string expected)
    {
        using var folder = new TemporaryFolder();
        using var saved = TinyModels.Make("SD1");
        StableDiffusionFolder.Save(folder.Path, saved);
        foreach (var weights in Directory.GetFiles(folder.Path, "*.safetensors", SearchOption.AllDirectories))
            File.Delete(weights);
        var path = Path.Combine(folder.Path, "unet", "config.json");
        var config = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        config[field] = JsonNode.Parse(value);
        File.WriteAllText(path, config.ToJsonString());
        Assert.Contains(expected, Assert.Throws<ModelConfigException>(() => StableDiffusionFolder.Open(folder.Path).Load()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Model_PartsOfDifferentModels_AreRefused()
    {
        using var one = TinyModels.Make("SD1");
        using var xl = TinyModels.Make("SDXL");
        Assert.Contains("cross_attention_dim", Assert.Throws<ModelConfigException>(() => new StableDiffusionModel([xl.Tokenizers[1]], [xl.TextEncoders[1]], one.Unet, one.Autoencoder, one.Scheduler)).Message, StringComparison.Ordinal);
        Assert.Contains("two of each", Assert.Throws<ModelConfigException>(() => new StableDiffusionModel(one.Tokenizers, one.TextEncoders, xl.Unet, one.Autoencoder, one.Scheduler)).Message, StringComparison.Ordinal);
        Assert.Contains("multiples of 2", Assert.Throws<ArgumentException>(() => one.Noise(1, 9, 8, new NoiseKey(1))).Message, StringComparison.Ordinal);
    }

    internal static IEnumerable<nn.Module> Networks(StableDiffusionModel model) => [.. model.TextEncoders, model.Unet, model.Autoencoder];
}
