using System.IO.Compression;
using AdjointDpm.Formats;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using AdjointDpm.Tests.Formats;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Full-size networks, built without memory for their weights, have the published numbers of tensors and parameters.</summary>
[Collection(nameof(Alone))]
public sealed class StableDiffusionLayoutTests
{
    private static readonly UNet2DConditionConfig Sd15 = new() { CrossAttentionDim = 768 };

    [Fact]
    public void Sd15_HasItsTensorsAndParameters()
    {
        var shapes = Shapes(Sd15);
        Assert.Equal(686, shapes.Count);
        Assert.Equal(859_520_964, shapes.Values.Sum(s => s.Aggregate(1L, (a, b) => a * b)));
        Assert.Equal([320, 768], shapes["down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_v.weight"]);
        Assert.Equal([1280, 2560, 1, 1], shapes["up_blocks.0.resnets.2.conv_shortcut.weight"]);
        Assert.Equal([640, 960, 3, 3], shapes["up_blocks.2.resnets.2.conv1.weight"]);
    }

    [Fact]
    public void Sd21_HasItsTensorsAndParameters()
    {
        var shapes = Shapes(Sd15 with { CrossAttentionDim = 1024, UseLinearProjection = true, AttentionHeadDim = new([5, 10, 20, 20]) });
        Assert.Equal(686, shapes.Count);
        Assert.Equal(865_910_724, shapes.Values.Sum(s => s.Aggregate(1L, (a, b) => a * b)));
        Assert.Equal([1280, 1280], shapes["mid_block.attentions.0.proj_in.weight"]);
    }

    [Fact]
    public void Sdxl_HasItsTensorsAndParameters()
    {
        var shapes = Shapes(new UNet2DConditionConfig
        {
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
        });
        Assert.Equal(1680, shapes.Count);
        Assert.Equal(2_567_463_684, shapes.Values.Sum(s => s.Aggregate(1L, (a, b) => a * b)));
    }

    /// <summary>Every name and shape of <c>Reference/sd_keys</c>, which were generated from the architectures alone.</summary>
    [Fact]
    public void Names_OfEveryPart_AreThePublishedOnes()
    {
        var (sd1, xl) = (StableDiffusionConfig.Sd1, StableDiffusionConfig.Xl);
        Equal("sd1.unet", Shapes(() => new UNet2DConditionModel(sd1.Unet)), 686);
        Equal("xl.unet", Shapes(() => new UNet2DConditionModel(xl.Unet)), 1680);
        Equal("vae", Shapes(() => new AutoencoderKL(sd1.Autoencoder)), 248);
        Equal("clip_l", Shapes(() => new ClipTextModel(sd1.TextEncoders[0])), 196);
        Equal("sd1.file", Shapes(() => new UNet2DConditionModel(sd1.Unet)).ToDictionary(p => SingleFileNames.Unet + SingleFileNames.OfUnet(p.Key, sd1.Unet), p => p.Value), 686);
        Equal("xl.file", Shapes(() => new UNet2DConditionModel(xl.Unet)).ToDictionary(p => SingleFileNames.Unet + SingleFileNames.OfUnet(p.Key, xl.Unet), p => p.Value), 1680);
    }

    /// <summary>Where a single file's autoencoder and OpenCLIP texts go, tensor by tensor and in which form: as diffusers' own conversion has it (<c>Reference/diffusers/names.py</c>).</summary>
    [Theory]
    [InlineData("vae", 248)]
    [InlineData("sd2.text", 372)]
    [InlineData("xl.text2", 517)]
    public void Names_OfSingleFiles_AreThoseThatDiffusersConverts(string set, int count)
    {
        using var packed = new StreamReader(new GZipStream(File.OpenRead(Path.Combine(ReferenceFolder.Of("diffusers"), "names.txt.gz")), CompressionMode.Decompress));
        var expected = packed.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split(' ')).Where(part => part[0] == set).Select(part => (Ours: part[1], Theirs: part[2], Form: part[3])).ToList();
        Assert.Equal(count, expected.Count);
        var (sd2, xl) = (StableDiffusionConfig.Sd2, StableDiffusionConfig.Xl);
        Func<string, WeightEntry> named = set switch
        {
            "vae" => name => SingleFileNames.OfAutoencoder(name, xl.Autoencoder, SingleFileNames.Autoencoder),
            "sd2.text" => name => SingleFileNames.OfOpenClip(name, "cond_stage_model.model."),
            _ => name => SingleFileNames.OfOpenClip(name, "conditioner.embedders.1.model."),
        };
        Assert.Equal(expected, expected.Select(e => named(e.Ours)).Select(e => (e.Ours, e.Theirs, e.Form switch { WeightForm.Pointwise => "pointwise", WeightForm.Transposed => "transposed", WeightForm.Query => "q", WeightForm.Key => "k", WeightForm.Value => "v", _ => "same" })));
        var network = set switch { "vae" => Shapes(() => new AutoencoderKL(xl.Autoencoder)), "sd2.text" => Shapes(() => new ClipTextModel(sd2.TextEncoders[0])), _ => Shapes(() => new ClipTextModel(xl.TextEncoders[1])) };
        Assert.Equal(network.Keys.Order(StringComparer.Ordinal), expected.Select(e => e.Ours).Order(StringComparer.Ordinal));
    }

    /// <summary>Names and shapes of ViT-L/14, whose count is published: 303,179,776, and 786,432 more of the projection.</summary>
    [Fact]
    public void VisionTower_OfL14_HasThePublishedSize()
    {
        var shapes = Shapes(() => new ClipVisionModel(new() { HiddenSize = 1024, IntermediateSize = 4096, NumHiddenLayers = 24, NumAttentionHeads = 16, PatchSize = 14, ProjectionDim = 768 }));
        Assert.Equal(303_179_776 + 786_432, shapes.Values.Sum(s => s.Aggregate(1L, (a, b) => a * b)));
        Assert.Equal([257L, 1024], shapes["vision_model.embeddings.position_embedding.weight"]);
        Assert.Contains("vision_model.pre_layrnorm.weight", shapes.Keys);
    }

    /// <summary>Full-size single files, whose data are holes on the disk: every name is found and every shape fits, in what would be read and in what would be written.</summary>
    [Theory]
    [InlineData(SingleFileKind.Sd1, 686 + 248 + 196)]
    [InlineData(SingleFileKind.Sd2, 686 + 248 + 372)]
    [InlineData(SingleFileKind.Xl, 1680 + 248 + 196 + 517)]
    public void SingleFile_OfFullSize_FitsTheNetworks(SingleFileKind kind, int tensors)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        var config = kind switch { SingleFileKind.Sd1 => StableDiffusionConfig.Sd1, SingleFileKind.Sd2 => StableDiffusionConfig.Sd2, _ => StableDiffusionConfig.Xl };
        OnMeta(() =>
        {
            using var unet = new UNet2DConditionModel(config.Unet);
            using var autoencoder = new AutoencoderKL(config.Autoencoder);
            var encoders = config.TextEncoders.Select(c => new ClipTextModel(c)).ToArray();
            var maps = SingleFileCheckpoint.Maps(kind, encoders, unet, autoencoder, SingleFileNames.Autoencoder).ToList();
            var written = new Dictionary<string, Tensor>();
            foreach (var (map, _, _) in maps)
                map.AddTo(written);
            Assert.Equal(tensors, maps.Sum(m => m.Map.Entries.Count));
            // The text encoder of OpenCLIP has queries, keys and values in one.
            Assert.Equal(tensors - (kind == SingleFileKind.Sd1 ? 0 : 4 * config.TextEncoders[^1].NumHiddenLayers), written.Count);
            SparseFile.Write(folder["model.safetensors"], written.ToDictionary(p => p.Key, p => p.Value.shape));
            Assert.Equal(kind, SingleFileCheckpoint.Detect(folder["model.safetensors"]));
            using var file = WeightFiles.Open(folder["model.safetensors"]);
            foreach (var (map, prefix, unused) in maps)
                map.Check(file, prefix, unused);
            foreach (var encoder in encoders)
                encoder.Dispose();
            return 0;
        });
    }

    [Fact]
    public void KohyaNames_OfSd15_AreThe792()
    {
        var (sd1, expected) = (StableDiffusionConfig.Sd1, SparseFile.Names("sd1.lora"));
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        OnMeta(() =>
        {
            var tokenizer = ClipTokenizer.Load(ReferenceFolder.Of("clip_tokenizer"));
            using var model = new StableDiffusionModel([tokenizer], [new ClipTextModel(sd1.TextEncoders[0])], new UNet2DConditionModel(sd1.Unet), new AutoencoderKL(sd1.Autoencoder), sd1.Scheduler);
            SparseFile.Write(folder["lora.safetensors"], expected);
            var before = get_default_device();
            set_default_device(CPU);
            using var lora = LoraWeights.Read(folder["lora.safetensors"], model);
            Assert.Equal(192 + 72, lora.Layers.Count);
            lora.Write(folder["again.safetensors"], LoraDialect.Kohya, model);
            using var again = SafetensorsFile.Open(folder["again.safetensors"]);
            Assert.Equal(expected.Keys.Order(StringComparer.Ordinal), again.Names);
            Assert.All(again.Names, n => Assert.Equal(expected[n], again.Shape(n)));
            set_default_device(before);
            return 0;
        });
    }

    private static void Equal(string set, Dictionary<string, long[]> actual, int count)
    {
        var expected = SparseFile.Names(set);
        Assert.Equal(count, expected.Count);
        Assert.Equal(expected.Keys.Order(StringComparer.Ordinal), actual.Keys.Order(StringComparer.Ordinal));
        Assert.All(expected, p => Assert.Equal(p.Value, actual[p.Key]));
    }

    private static Dictionary<string, long[]> Shapes(UNet2DConditionConfig config) => Shapes(() => new UNet2DConditionModel(config));

    private static Dictionary<string, long[]> Shapes(Func<nn.Module> make) => OnMeta(() =>
    {
        using var model = make();
        return model.state_dict().ToDictionary(p => p.Key, p => p.Value.shape);
    });

    private static T OnMeta<T>(Func<T> run)
    {
        var before = get_default_device();
        set_default_device(META);
        try
        {
            return run();
        }
        finally
        {
            set_default_device(before);
        }
    }
}
