using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.Vae;
using AdjointDpm.Tests.Formats;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

public sealed class AutoencoderTests
{
    private static readonly AutoencoderKLConfig Tiny = new()
    {
        BlockOutChannels = [8, 12],
        DownBlockTypes = ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        UpBlockTypes = ["UpDecoderBlock2D", "UpDecoderBlock2D"],
        NormNumGroups = 4,
        SampleSize = 16,
    };

    [Fact]
    public void Decode_ReferenceWeights_OutputAndEveryGradientAreDiffusers()
    {
        using var scope = NewDisposeScope();
        using var model = Loaded();
        using var io = SafetensorsFile.Open(Path.Combine(ReferenceFolder.Of("vae"), "io.safetensors"));
        var latents = io.Read("latents").requires_grad_();
        var output = model.Decode(latents);
        Reference.Close(io.Read("output"), output, "output");
        autograd.backward([output], [io.Read("cotangent")], inputs: [latents, .. model.named_parameters().Where(p => p.name.Contains("decoder", StringComparison.Ordinal) || p.name.StartsWith("post_quant", StringComparison.Ordinal)).Select(p => p.parameter)]);
        Reference.Close(io.Read("grad.latents"), latents.grad!, "latents");
        Reference.CloseGradients(model, Path.Combine(ReferenceFolder.Of("vae"), "param_grads.safetensors"));
    }

    [Fact]
    public void Encode_ReferenceWeights_MomentsAreDiffusers()
    {
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        using var model = Loaded();
        using var io = SafetensorsFile.Open(Path.Combine(ReferenceFolder.Of("vae"), "encode.safetensors"));
        var latent = model.Encode(io.Read("image"));
        Reference.Close(io.Read("mean"), latent.Mean, "mean");
        Reference.Close(io.Read("logvar"), latent.LogVariance, "logvar");
        Assert.True(latent.Sample(zeros_like(latent.Mean)).Equals(latent.Mean));
        var draw = latent.Sample(ones_like(latent.Mean)).sub(latent.Mean);
        Assert.True(draw.allclose(latent.LogVariance.exp().sqrt(), 1e-4, 1e-6));
        Reference.Close(io.Read("mean").mul(0.18215), model.EncodeMean(io.Read("image")), "scaled mean");
    }

    public static TheoryData<string> Variations => [.. Variants.Keys];

    private static readonly Dictionary<string, AutoencoderKLConfig> Variants = new()
    {
        ["plain"] = Tiny,
        ["three layers, three stages"] = Tiny with { BlockOutChannels = [4, 8, 8], LayersPerBlock = 3, DownBlockTypes = [.. Enumerable.Repeat("DownEncoderBlock2D", 3)], UpBlockTypes = [.. Enumerable.Repeat("UpDecoderBlock2D", 3)] },
        ["one channel, no attention, no 1x1 convolutions"] = Tiny with { InChannels = 1, OutChannels = 1, LatentChannels = 3, MidBlockAddAttention = false, UseQuantConv = false, UsePostQuantConv = false, ActFn = "gelu" },
        ["XL's scale and a shift"] = Tiny with { ScalingFactor = 0.13025, ShiftFactor = 0.1, LatentChannels = 16 },
    };

    [Theory]
    [MemberData(nameof(Variations))]
    public void Variation_GradientIsFiniteDifferencesAndSlicesAreTheBatch(string variation)
    {
        using var scope = NewDisposeScope();
        manual_seed(5);
        var config = Variants[variation];
        using var model = new AutoencoderKL(config);
        model.to(float64);
        var z = randn(3, config.LatentChannels, 5, 3, dtype: float64).requires_grad_();
        var w = randn(3, config.OutChannels, 5 * config.Reduction, 3 * config.Reduction, dtype: float64);
        var whole = model.DecodeSample(z);
        Assert.Equal(w.shape, whole.shape);
        autograd.backward([whole], [w], inputs: [z]);
        var direction = randn_like(z);
        const double H = 1e-5;
        using var frozen = no_grad();
        double Along(double h) => model.DecodeSample(z.detach().add(direction.mul(h))).mul(w).sum().Number();
        Assert.Equal(1, z.grad!.mul(direction).sum().Number() / ((Along(H) - Along(-H)) / (2 * H)), 1e-6);

        model.Slicing = true;
        Assert.True(model.DecodeSample(z).allclose(whole, 1e-12, 1e-12));
        // What is encoded comes back in the decoder's units.
        var image = randn(2, config.InChannels, 4 * config.Reduction, 2 * config.Reduction, dtype: float64);
        var (mean, latents) = (model.Encode(image).Mean, model.EncodeMean(image));
        Assert.True(model.DecodeSample(latents).allclose(model.Decode(mean), 1e-10, 1e-10));
    }

    [Fact]
    public void Tiles_OfOddSizes_AreDifferentiableAndLeaveSmallLatentsWhole()
    {
        using var scope = NewDisposeScope();
        manual_seed(6);
        using var model = new AutoencoderKL(Tiny);
        model.to(float64);
        foreach (var size in new long[][] { [16, 16], [11, 23], [9, 8] })
        {
            model.Tiles = null;
            var z = randn(2, 4, size[0], size[1], dtype: float64).requires_grad_();
            var whole = model.Decode(z);
            model.Tiles = new DecodeTiles();
            var tiled = model.Decode(z);
            Assert.Equal(whole.shape, tiled.shape);
            Assert.False(whole.Equals(tiled));
            var w = randn_like(tiled);
            autograd.backward([tiled], [w], inputs: [z]);
            using var frozen = no_grad();
            var direction = randn_like(z);
            double Along(double h) => model.Decode(z.detach().add(direction.mul(h))).mul(w).sum().Number();
            Assert.Equal(1, z.grad!.mul(direction).sum().Number() / ((Along(1e-5) - Along(-1e-5)) / 2e-5), 1e-6);
            model.Tiles = new DecodeTiles(Side: 64);
            Assert.True(model.Decode(z).Equals(whole), "a latent that fits one tile is not split");
        }

        model.Tiles = new DecodeTiles(Overlap: 1);
        Assert.Contains("overlap", Assert.Throws<InvalidOperationException>(() => model.Decode(zeros(1, 4, 16, 16, dtype: float64))).Message, StringComparison.Ordinal);
    }

    /// <summary>Tile by tile against the loop of diffusers' <c>tiled_decode</c>, written out pixel by pixel.</summary>
    [Fact]
    public void Tiles_BlendAsDiffusersDoes()
    {
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        manual_seed(7);
        using var model = new AutoencoderKL(Tiny);
        var z = randn(1, 4, 14, 11);
        model.Tiles = new DecodeTiles();
        var tiled = model.Decode(z);

        model.Tiles = null;
        const int Side = 8, Step = 6, Blend = 4, Keep = 12;
        var rows = new List<List<Tensor>>();
        for (var i = 0; i < 14; i += Step)
            rows.Add([.. Enumerable.Range(0, 2).Select(j => model.Decode(z[.., .., i..Math.Min(i + Side, 14), (j * Step)..Math.Min((j * Step) + Side, 11)]))]);
        var lines = new List<Tensor>();
        for (var i = 0; i < rows.Count; i++)
        {
            for (var j = 0; j < rows[i].Count; j++)
            {
                var tile = rows[i][j];
                if (i > 0)
                    Fade(rows[i - 1][j], tile, 2);
                if (j > 0)
                    Fade(rows[i][j - 1], tile, 3);
            }

            lines.Add(cat([.. rows[i].Select(t => t[.., .., ..(int)Math.Min(Keep, t.shape[2]), ..(int)Math.Min(Keep, t.shape[3])])], 3));
        }

        var expected = cat(lines, 2);
        Assert.Equal(expected.shape, tiled.shape);
        Assert.True(expected.allclose(tiled, 1e-5, 1e-6));

        static void Fade(Tensor a, Tensor b, int dimension)
        {
            var extent = Math.Min(Blend, Math.Min(a.shape[dimension], b.shape[dimension]));
            for (var k = 0L; k < extent; k++)
            {
                var into = b.select(dimension, k);
                into.copy_(a.select(dimension, a.shape[dimension] - extent + k).mul(1 - ((double)k / extent)).add(into.mul((double)k / extent)));
            }
        }
    }

    [Fact]
    public void Config_RoundTripsAndNamesWhatIsWrong()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["config.json"], """{"_class_name":"AutoencoderKL","block_out_channels":[8,8],"mid_block_add_attention":true,"something_new":1}""");
        var config = AutoencoderKLConfig.Read(folder["config.json"]);
        Assert.Equal(0.18215, config.ScalingFactor);
        config.Write(folder["again.json"]);
        Assert.Contains("something_new", File.ReadAllText(folder["again.json"]), StringComparison.Ordinal);
        Assert.Contains("down_block_types", Assert.Throws<ModelConfigException>(() => new AutoencoderKL(config)).Message, StringComparison.Ordinal);
        Assert.Contains("AttnDownEncoderBlock2D", Assert.Throws<ModelConfigException>(() => new AutoencoderKL(Tiny with { DownBlockTypes = ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"] })).Message, StringComparison.Ordinal);
        File.WriteAllText(folder["config.json"], """{"_class_name":"AutoencoderTiny"}""");
        Assert.Contains("AutoencoderTiny", Assert.Throws<ModelConfigException>(() => AutoencoderKLConfig.Read(folder["config.json"])).Message, StringComparison.Ordinal);
    }

    /// <summary>As XL's pipelines scale latents of autoencoders that have means and deviations of their channels.</summary>
    [Fact]
    public void DecodeSample_WithStatisticsOfChannels_UsesThemAndEncodeUndoesIt()
    {
        using var scope = NewDisposeScope();
        using var frozen = no_grad();
        var config = Tiny with { LatentsMean = [0.5, -1, 2, 0], LatentsStd = [2, 0.5, 1, 4], ScalingFactor = 0.5, ShiftFactor = 7 };
        using var model = new AutoencoderKL(config);
        model.eval();
        var latents = randn(2, 4, 4, 4);
        Tensor Row(IReadOnlyList<double> values) => tensor(values.Select(v => (float)v).ToArray()).reshape(1, 4, 1, 1);
        Reference.Close(model.Decode(latents * Row(config.LatentsStd!) / 0.5 + Row(config.LatentsMean!)), model.DecodeSample(latents), "decoded");
        var image = randn(2, 3, 8, 8);
        Reference.Close((model.Encode(image).Mean - Row(config.LatentsMean!)) * 0.5 / Row(config.LatentsStd!), model.EncodeMean(image), "encoded");
        // One of the two alone is not read, as there.
        using var half = new AutoencoderKL(config with { LatentsStd = null });
        Reference.Close(half.Decode(latents / 0.5 + 7), half.DecodeSample(latents), "decoded");
        Assert.Contains("latents_std has 3", Assert.Throws<ModelConfigException>(() => new AutoencoderKL(config with { LatentsStd = [1, 1, 1] })).Message, StringComparison.Ordinal);
        using var folder = new TemporaryFolder();
        config.Write(folder["config.json"]);
        Assert.Equal([2.0, 0.5, 1, 4], AutoencoderKLConfig.Read(folder["config.json"]).LatentsStd);
    }

    private static AutoencoderKL Loaded()
    {
        var folder = ReferenceFolder.Of("vae");
        var model = new AutoencoderKL(AutoencoderKLConfig.Read(Path.Combine(folder, "config.json")));
        ModuleWeights.Load(model, Path.Combine(folder, "diffusion_pytorch_model.safetensors"));
        model.eval();
        return model;
    }
}
