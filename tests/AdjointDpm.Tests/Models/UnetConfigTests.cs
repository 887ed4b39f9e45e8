using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
using AdjointDpm.Tests.Formats;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

public sealed class UnetConfigTests
{
    private static readonly UNet2DConfig Tiny = new()
    {
        InChannels = 1,
        OutChannels = 1,
        BlockOutChannels = [8, 8, 16],
        DownBlockTypes = ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"],
        UpBlockTypes = ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"],
        LayersPerBlock = 1,
        AttentionHeadDim = 8,
        NormNumGroups = 4,
    };

    public static TheoryData<string> Variations => [.. Variants.Keys];

    private static Dictionary<string, UNet2DConfig> Variants { get; } = new()
    {
        ["plain"] = Tiny,
        ["two layers"] = Tiny with { LayersPerBlock = 2 },
        ["no attention in the middle, scale and shift"] = Tiny with { AddAttention = false, ResnetTimeScaleShift = "scale_shift" },
        ["residual resampling"] = Tiny with
        {
            DownBlockTypes = ["AttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
            UpBlockTypes = ["UpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D"],
            DownsampleType = "resnet",
            UpsampleType = "resnet",
        },
        ["one head, other activation"] = Tiny with { AttentionHeadDim = null, ActFn = "gelu", MidBlockScaleFactor = 1.5 },
        ["fourier"] = Tiny with { TimeEmbeddingType = "fourier" },
        ["padding behind"] = Tiny with { DownsamplePadding = 0, CenterInputSample = true, FlipSinToCos = false, FreqShift = 1 },
    };

    [Theory]
    [MemberData(nameof(Variations))]
    public void UNet2DModel_Variation_IsFiniteAndItsBatchIsIndependent(string variation)
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        using var model = new UNet2DModel(Variants[variation]);
        model.to(float64);
        model.eval();
        using var frozen = no_grad();
        var x = randn(3, 1, 28, 28, dtype: float64);
        var t = tensor(new[] { 1L, 500, 999 });
        var together = model.forward(x, t);
        Assert.Equal(x.shape, together.shape);
        Assert.Equal(float64, together.dtype);
        var alone = model.forward(x[1..2], t[1..2]);
        Assert.True(together[1..2].allclose(alone, 1e-10, 1e-10));
        Assert.True(together.isfinite().all().IsTrue());
    }

    [Fact]
    public void UNet2DModel_OddSizes_ComeBackAsTheyWere()
    {
        using var scope = NewDisposeScope();
        using var model = new UNet2DModel(Tiny);
        using var frozen = no_grad();
        foreach (var size in new long[][] { [28, 28], [14, 10], [7, 7], [9, 5] })
        {
            var x = randn(1, 1, size[0], size[1]);
            Assert.Equal(x.shape, model.forward(x, tensor(5L)).shape);
        }
    }

    [Fact]
    public void UNet2DModel_ClassLabels_ChangeTheOutputAndMustBeGiven()
    {
        using var scope = NewDisposeScope();
        using var model = new UNet2DModel(Tiny with { NumClassEmbeds = 11 });
        using var plain = new UNet2DModel(Tiny);
        using var frozen = no_grad();
        var x = randn(2, 1, 8, 8);
        var t = tensor(5L);
        Assert.Contains("class_embedding.weight", model.state_dict().Keys);
        Assert.False(model.forward(x, t, tensor(new[] { 1L, 2 })).allclose(model.forward(x, t, tensor(new[] { 3L, 10 }))));
        Assert.Throws<ArgumentException>(() => model.forward(x, t));
        Assert.Throws<ArgumentException>(() => plain.forward(x, t, tensor(new[] { 1L, 2 })));
    }

    [Fact]
    public void UNet2DModel_Float64_SeesTheTimesOfFloat32()
    {
        using var scope = NewDisposeScope();
        manual_seed(4);
        using var model = new UNet2DModel(Tiny);
        model.eval();
        using var frozen = no_grad();
        var x = randn(1, 1, 8, 8);
        var single = model.forward(x, tensor(981.37));
        model.to(float64);
        var wide = model.forward(x.to(float64), tensor(981.37));
        // In float64 times would differ by 981 · 1e-8 radians; what remains is the rounding of the layers.
        Assert.True(wide.allclose(single.to(float64), 1e-5, 1e-6));
    }

    [Fact]
    public void UNet2DModel_OldAttentionNames_Load()
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var model = new UNet2DModel(Tiny);
        Tiny.Write(folder["config.json"]);
        var old = model.state_dict().ToDictionary(
            p => p.Key.Replace(".to_q.", ".query.", StringComparison.Ordinal).Replace(".to_k.", ".key.", StringComparison.Ordinal).Replace(".to_v.", ".value.", StringComparison.Ordinal).Replace(".to_out.0.", ".proj_attn.", StringComparison.Ordinal),
            p => p.Value);
        Assert.Contains("mid_block.attentions.0.proj_attn.bias", old.Keys);
        SafetensorsWriter.Write(folder["diffusion_pytorch_model.safetensors"], old);
        using var loaded = DiffusersFolder.Open(folder.Path).LoadUNet2D();
        TinyModels.AllWeights(model, loaded, (x, y) => x.Equals(y));
    }

    [Fact]
    public void UNet2DConditionModel_Sd2Layout_HasItsShapes()
    {
        using var scope = NewDisposeScope();
        using var model = new UNet2DConditionModel(new UNet2DConditionConfig
        {
            BlockOutChannels = [8, 16],
            DownBlockTypes = ["CrossAttnDownBlock2D", "DownBlock2D"],
            UpBlockTypes = ["UpBlock2D", "CrossAttnUpBlock2D"],
            LayersPerBlock = 1,
            NormNumGroups = 4,
            CrossAttentionDim = 12,
            AttentionHeadDim = new OneOrMany([2, 4]),
            TransformerLayersPerBlock = new OneOrMany([1, 2]),
            UseLinearProjection = true,
        });
        var shapes = model.state_dict().ToDictionary(p => p.Key, p => p.Value.shape);
        Assert.Equal([8, 8], shapes["down_blocks.0.attentions.0.proj_in.weight"]);
        Assert.Equal([16, 12], shapes["mid_block.attentions.0.transformer_blocks.1.attn2.to_k.weight"]);
        using var frozen = no_grad();
        var x = randn(2, 4, 7, 5);
        Assert.Equal(x.shape, model.forward(x, tensor(3.5), randn(2, 6, 12)).shape);
    }

    [Fact]
    public void UNet2DConditionModel_SdxlLayout_UsesAddedConditioning()
    {
        using var scope = NewDisposeScope();
        using var model = new UNet2DConditionModel(new UNet2DConditionConfig
        {
            BlockOutChannels = [8, 16],
            DownBlockTypes = ["DownBlock2D", "CrossAttnDownBlock2D"],
            UpBlockTypes = ["CrossAttnUpBlock2D", "UpBlock2D"],
            LayersPerBlock = 1,
            NormNumGroups = 4,
            CrossAttentionDim = 12,
            AttentionHeadDim = 2,
            AdditionEmbedType = "text_time",
            AdditionTimeEmbedDim = 6,
            ProjectionClassEmbeddingsInputDim = 5 + 6 * 6,
        });
        using var frozen = no_grad();
        var (x, context, t) = (randn(2, 4, 8, 8), randn(2, 6, 12), tensor(3));
        var ids = tensor(new float[] { 64, 64, 0, 0, 64, 64, 64, 64, 0, 0, 32, 32 }, [2, 6]);
        var pooled = randn(1, 5).expand(2, 5);
        var y = model.forward(cat([x[..1], x[..1]], 0), t, cat([context[..1], context[..1]], 0), new AddedConditioning(pooled, ids));
        Assert.False(y[0].allclose(y[1]));
        Assert.Throws<ArgumentException>(() => model.forward(x, t, context));
        Assert.Throws<ModelConfigException>(() => new UNet2DConditionModel(model.Config with { AdditionTimeEmbedDim = null }));
    }

    /// <summary>A class is a vector added to that of the time: a network without classes gives the same when the vector is part of its last bias there.</summary>
    [Theory]
    [InlineData("table", null)]
    [InlineData("timestep", "timestep")]
    [InlineData("identity", "identity")]
    [InlineData("projection", "projection")]
    [InlineData("simple_projection", "simple_projection")]
    public void UNet2DConditionModel_Classes_AreAddedToTheTime_AndHaveGradients(string kind, string? type)
    {
        using var scope = NewDisposeScope();
        var config = new UNet2DConditionConfig
        {
            BlockOutChannels = [8, 16],
            DownBlockTypes = ["CrossAttnDownBlock2D", "DownBlock2D"],
            UpBlockTypes = ["UpBlock2D", "CrossAttnUpBlock2D"],
            LayersPerBlock = 1,
            NormNumGroups = 4,
            CrossAttentionDim = 12,
            AttentionHeadDim = 2,
            ClassEmbedType = type,
            NumClassEmbeds = type is null ? 7 : null,
            ProjectionClassEmbeddingsInputDim = kind.EndsWith("projection", StringComparison.Ordinal) ? 5 : null,
        };
        using var model = new UNet2DConditionModel(config);
        using var plain = new UNet2DConditionModel(config with { ClassEmbedType = null, NumClassEmbeds = null });
        model.to(float64);
        plain.to(float64);
        var named = model.state_dict();
        Assert.Equal(kind != "identity", named.Keys.Any(n => n.StartsWith("class_embedding.", StringComparison.Ordinal)));
        var (x, context, t) = (randn(1, 4, 7, 6, dtype: float64), randn(1, 3, 12, dtype: float64), tensor(31.0));
        var given = kind switch { "table" => tensor(new[] { 4L }), "timestep" => tensor(new[] { 250.0 }), "identity" => randn(1, 32, dtype: float64), _ => randn(1, 5, dtype: float64) };
        Tensor Layer(string name, Tensor v) => nn.functional.linear(v, named[$"class_embedding.{name}weight"], named[$"class_embedding.{name}bias"]);
        using (no_grad())
        {
            var added = kind switch
            {
                "table" => named["class_embedding.weight"][4],
                "timestep" => Layer("linear_2.", nn.functional.silu(Layer("linear_1.", Waves(250, 8)))),
                "identity" => given,
                "projection" => Layer("linear_2.", nn.functional.silu(Layer("linear_1.", given))),
                _ => Layer("", given),
            };
            foreach (var (name, value) in plain.state_dict())
                value.copy_(name == "time_embedding.linear_2.bias" ? named[name] + added.flatten() : named[name]);
            var (expected, actual) = (plain.forward(x, t, context), model.forward(x, t, context, null, given));
            // Waves of times are computed in float32.
            var tolerance = kind == "timestep" ? 1e-5 : 1e-10;
            Assert.True(expected.allclose(actual, tolerance, tolerance));
        }

        Assert.Throws<ArgumentException>(() => model.forward(x, t, context));
        Assert.Throws<ArgumentException>(() => plain.forward(x, t, context, null, given));
        // A class is a number of a row; a time's slope drowns in float32.
        if (kind is "table" or "timestep")
            return;
        var leaf = given.clone().requires_grad_();
        model.forward(x, t, context, null, leaf).sin().sum().backward();
        using var frozen = no_grad();
        using Scalar h = 1e-5, back = -1e-5;
        var direction = randn_like(given);
        double At(Scalar step) => model.forward(x, t, context, null, given.add(direction, step)).sin().sum().Number();
        var (slope, gradient) = ((At(h) - At(back)) / 2e-5, leaf.grad!.mul(direction).sum().Number());
        Assert.Equal(gradient, slope, 1e-5 * Math.Max(Math.Abs(gradient), 1e-3));
    }

    // Cosines, then sines, in float32 as everywhere.
    private static Tensor Waves(double time, int channels) =>
        tensor(Enumerable.Range(0, channels).Select(i => (float)Math.Exp(-Math.Log(10000) * (i % (channels / 2)) / (channels / 2)) * (float)time).Select((a, i) => i < channels / 2 ? Math.Cos(a) : Math.Sin(a)).ToArray(), [1, channels], dtype: float64);

    [Fact]
    public void Read_MissingFields_AreTheClassDefaults()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["config.json"], """{"_class_name":"UNet2DModel","act_fn":"mish","sample_size":[8,16],"something_new":3}""");
        var config = UNet2DConfig.Read(folder["config.json"]);
        Assert.Equal("mish", config.ActFn);
        Assert.Equal([8, 16], config.SampleSize!.Values);
        Assert.Equal([224, 448, 672, 896], config.BlockOutChannels);
        Assert.Equal(8, config.AttentionHeadDim);
    }

    [Fact]
    public void Write_FieldsOfOtherReleases_AreKept()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["config.json"], """{"_class_name":"UNet2DModel","_diffusers_version":"0.30.0","mid_block_type":null,"num_train_timesteps":null,"something_new":[3]}""");
        var config = UNet2DConfig.Read(folder["config.json"]);
        config.Write(folder["again.json"]);
        var fields = System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllText(folder["again.json"]))!.AsObject();
        Assert.Equal("0.30.0", fields["_diffusers_version"]!.GetValue<string>());
        Assert.Equal(3, fields["something_new"]![0]!.GetValue<int>());
        Assert.True(fields.ContainsKey("mid_block_type") && fields["mid_block_type"] is null);
        using var network = new UNet2DModel(config with { BlockOutChannels = Tiny.BlockOutChannels, DownBlockTypes = Tiny.DownBlockTypes, UpBlockTypes = Tiny.UpBlockTypes, NormNumGroups = 4 });
        Assert.DoesNotContain(network.state_dict().Keys, k => k.StartsWith("mid_block.", StringComparison.Ordinal));
        File.WriteAllText(folder["config.json"], """{"_class_name":"UNet2DModel","time_embedding_dim":64}""");
        Assert.Contains("time_embedding_dim", Assert.Throws<ModelConfigException>(() => UNet2DConfig.Read(folder["config.json"])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Read_AfterWrite_IsEqual()
    {
        using var folder = new TemporaryFolder();
        var config = Tiny with { SampleSize = 28, NumClassEmbeds = 11, AttentionHeadDim = null };
        config.Write(folder["config.json"]);
        var read = UNet2DConfig.Read(folder["config.json"]);
        Assert.Equal(config.BlockOutChannels, read.BlockOutChannels);
        Assert.Equal([28], read.SampleSize!.Values);
        Assert.Null(read.AttentionHeadDim);
        Assert.Equal(11, read.NumClassEmbeds);
    }

    [Theory]
    [InlineData("""{"_class_name":"AutoencoderKL"}""", "AutoencoderKL")]
    [InlineData("""{"_class_name":"UNet2DConditionModel","encoder_hid_dim":768}""", "encoder_hid_dim")]
    [InlineData("""{"_class_name":"UNet2DConditionModel","layers_per_block":"two"}""", "layers_per_block")]
    [InlineData("""{"_class_name":""", "config.json")]
    public void Read_UnsupportedOrMalformed_NamesTheField(string json, string expected)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["config.json"], json);
        Assert.Contains(expected, Assert.Throws<ModelConfigException>(() => UNet2DConditionConfig.Read(folder["config.json"])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void UNet2DModel_ContradictoryConfig_SaysWhatToChange()
    {
        Assert.Contains("up_block_types", Assert.Throws<ModelConfigException>(() => new UNet2DModel(Tiny with { UpBlockTypes = ["UpBlock2D"] })).Message, StringComparison.Ordinal);
        Assert.Contains("norm_num_groups 3", Assert.Throws<ModelConfigException>(() => new UNet2DModel(Tiny with { NormNumGroups = 3 })).Message, StringComparison.Ordinal);
        Assert.Contains("SkipDownBlock2D", Assert.Throws<ModelConfigException>(() => new UNet2DModel(Tiny with { DownBlockTypes = ["SkipDownBlock2D", "DownBlock2D", "DownBlock2D"] })).Message, StringComparison.Ordinal);
    }
}
