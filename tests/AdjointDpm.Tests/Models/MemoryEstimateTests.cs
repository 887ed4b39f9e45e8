using AdjointDpm.Gradients;
using AdjointDpm.Models;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.Memory;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using AdjointDpm.Native;
using AdjointDpm.Samplers;
using AdjointDpm.Schedules;
using AdjointDpm.Tests.Gradients;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Memory from a configuration alone against what networks of it take. Bytes are of the whole process: nothing else may run meanwhile.</summary>
[Collection(nameof(NativeHeapTests))]
public sealed class MemoryEstimateTests : IDisposable
{
    // Plans are of libraries whose convolutions need no copies of their inputs: oneDNN's here. Where that computes wrong numbers it takes the same room.
    public MemoryEstimateTests()
    {
        NativeTorch.EnsureLoaded();
        LibtorchSettings.UseOneDnn(true);
    }

    public void Dispose() => LibtorchSettings.UseOneDnn(NativeTorch.EnsureLoaded().Convolutions is null);

    private const long Context = 24;

    private static readonly UNet2DConditionConfig Small = new()
    {
        BlockOutChannels = [64, 128],
        DownBlockTypes = ["CrossAttnDownBlock2D", "DownBlock2D"],
        UpBlockTypes = ["UpBlock2D", "CrossAttnUpBlock2D"],
        LayersPerBlock = 2,
        AttentionHeadDim = 4,
        CrossAttentionDim = 32,
    };

    [Theory]
    [InlineData("sd1", 1, 16, false, false)]
    [InlineData("sd1", 2, 16, false, false)]
    [InlineData("sd1", 1, 16, true, false)]
    [InlineData("sd1", 1, 16, false, true)]
    [InlineData("sdxl", 1, 16, false, false)]
    [InlineData("sdxl", 2, 16, true, false)]
    [InlineData("sd1", 2, 16, false, false, true)]
    [InlineData("sdxl", 1, 16, true, false, true)]
    [InlineData("sd1", 2, 16, true, false, false, true)]
    [InlineData("sd1", 1, 32, false, false, false, false, ScalarType.BFloat16)]
    [InlineData("sdxl", 1, 32, true, false, false, false, ScalarType.BFloat16)]
    [InlineData("sd1", 2, 16, false, false, true, false, ScalarType.BFloat16)]
    [InlineData("sd1", 1, 32, false, false, false, true, ScalarType.BFloat16)]
    public void Unet_GraphAndPeak_AreThoseMeasuredWithinATenth(string kind, int batch, int side, bool trainsAttention, bool wide, bool checkpointing = false, bool fused = false, ScalarType dtype = ScalarType.Float32) =>
        Measure(kind, batch, side, trainsAttention, wide, checkpointing, fused, dtype, above: 0.1);

    /// <summary>Processors differ here: one whose kernels compute in float16 keeps a third less than one that widens its inputs, which is what a plan counts with. It never promises too little.</summary>
    [Fact]
    public void Unet_InFloat16_IsNotPlannedShort() => Measure("sd1", 1, 16, false, false, false, false, ScalarType.Float16, above: 0.6);

    private static void Measure(string kind, int batch, int side, bool trainsAttention, bool wide, bool checkpointing, bool fused, ScalarType dtype, double above)
    {
        using var scope = NewDisposeScope();
        var config = kind == "sd1" ? Small : Small with
        {
            BlockOutChannels = [64, 128],
            DownBlockTypes = ["DownBlock2D", "CrossAttnDownBlock2D"],
            UpBlockTypes = ["CrossAttnUpBlock2D", "UpBlock2D"],
            TransformerLayersPerBlock = new OneOrMany([1, 2]),
            UseLinearProjection = true,
        };
        using var unet = Constant(new UNet2DConditionModel(config));
        unet.to(dtype);
        (unet.Checkpointing, unet.FusedAttention) = (checkpointing, fused);
        var width = wide ? 2 * side : side;
        bool IsTrained(string name) => trainsAttention && name.Contains("attn", StringComparison.Ordinal) && name.Contains("to_", StringComparison.Ordinal) && name.EndsWith("weight", StringComparison.Ordinal);
        var conditioning = randn(batch, Context, 32);
        var field = unet.Field(conditioning).Freeze(unet);
        field = unet.named_parameters().Where(p => IsTrained(p.name)).Aggregate(field, (f, p) => f.With(p.name, p.parameter));
        var request = new SampleRequest { Field = field, Noise = CounterNoise.Normal(new(2), [batch, 4, side, width]), Grid = TimeGrid.LogSnr(DiscreteVp.StableDiffusion, 2) };
        var footprint = NetworkFootprint.Of(request, new Objective { OnSample = x => x.square().mean() });
        var tape = NetworkTapes.Unet(config, new BlockTapes(batch, Size(dtype), checkpointing, IsTrained, fused), side, width, Context);
        var gradients = unet.named_parameters().Where(p => IsTrained(p.name)).Sum(p => Size(dtype) * p.parameter.numel());
        Within(0.1, above, "graph", tape.Graph, footprint.Graph);
        Within(0.1, above, $"product ({tape.Forward:n0}, {tape.Backward:n0}; {footprint.Pull}, {gradients:n0})", Math.Max(tape.Forward, tape.Backward + gradients), Math.Max(footprint.Pull.First, footprint.Pull.Later + gradients));
    }

    [Theory]
    [InlineData(1, 16, false)]
    [InlineData(2, 16, false)]
    [InlineData(1, 24, true)]
    [InlineData(1, 16, false, ScalarType.BFloat16)]
    [InlineData(1, 24, true, ScalarType.BFloat16)]
    public void Decoder_PeakOfItsGradient_IsThatMeasuredWithinATenth(int batch, int side, bool checkpointing, ScalarType dtype = ScalarType.Float32)
    {
        using var scope = NewDisposeScope();
        var config = new AutoencoderKLConfig { BlockOutChannels = [32, 64, 64], DownBlockTypes = [.. Enumerable.Repeat("DownEncoderBlock2D", 3)], UpBlockTypes = [.. Enumerable.Repeat("UpDecoderBlock2D", 3)], LayersPerBlock = 2 };
        using var autoencoder = Constant(new AutoencoderKL(config));
        autoencoder.to(dtype);
        autoencoder.Checkpointing = checkpointing;
        var latent = randn(batch, 4, side, side).to(dtype);
        void Differentiate() => Vjp.Of(x => autoencoder.Decode(x).square().mean(), latent, null);
        Differentiate();
        var measured = Enumerable.Range(0, 3).Min(_ =>
        {
            using var inner = NewDisposeScope();
            return HighWater.Of(Differentiate);
        });
        var tape = NetworkTapes.Decoder(config, new BlockTapes(batch, Size(dtype), checkpointing, _ => false), side, side);
        Within(0.1, 0.1, "decoder", Math.Max(tape.Forward, tape.Backward), measured);
    }

    /// <summary>The whole of a shard, from noise through guided steps and the decoder to a loss on pictures and back, against what the library measures of it.</summary>
    [Theory]
    [InlineData(1, false, ScalarType.Float32)]
    [InlineData(2, true, ScalarType.Float32)]
    [InlineData(1, true, ScalarType.BFloat16)]
    public void Estimate_OfAShard_IsThatMeasured(int batch, bool checkpointing, ScalarType dtype)
    {
        using var scope = NewDisposeScope();
        var text = new ClipTextConfig { HiddenSize = 32, IntermediateSize = 64, NumHiddenLayers = 2, NumAttentionHeads = 4, EosTokenId = 2 };
        var autoencoder = new AutoencoderKLConfig { BlockOutChannels = [32, 64, 64], DownBlockTypes = [.. Enumerable.Repeat("DownEncoderBlock2D", 3)], UpBlockTypes = [.. Enumerable.Repeat("UpDecoderBlock2D", 3)], LayersPerBlock = 2 };
        using var model = new StableDiffusionModel([ClipTokenizer.OpenAi()], [Constant(new ClipTextModel(text))], Constant(new UNet2DConditionModel(Small)), Constant(new AutoencoderKL(autoencoder)), StableDiffusionConfig.Sd1.Scheduler);
        foreach (var network in model.Networks)
            network.to(dtype);
        (model.Unet.Checkpointing, model.Autoencoder.Checkpointing) = (checkpointing, checkpointing);
        var side = 16 * autoencoder.Reduction;
        PromptEmbeddings prompt, negative;
        using (no_grad())
            (prompt, negative) = (model.Encode([.. Enumerable.Repeat("a fox", batch)]), model.EncodeNothing(batch));
        var request = model.Request(model.Field(prompt, negative, 3), model.Noise(batch, side, side, new NoiseKey(3)), 4);
        var measured = MemoryModel.Measure(request, x0 => model.Decode(x0).sub(Rooted.Half).square().mean());
        var memory = new StableDiffusionMemory { Config = StableDiffusionConfig.Of(model), Height = side, Width = side, Steps = 4, Batch = batch, Dtype = dtype };
        var weights = memory.Weights();
        Assert.Equal(model.Networks.Sum(n => n.parameters().Sum(p => p.numel() * p.element_size())), weights.Bytes);
        foreach (var (way, method) in new[] { (new MemoryWay(Checkpointing: checkpointing), GradientMethod.Discrete), (new MemoryWay(Unrolled: true, Checkpointing: checkpointing), GradientMethod.StoreAll) })
        {
            var (planned, plan) = (memory.Estimate(way, weights), measured.Plan(method));
            // A loss may keep more of the picture than this one does; a plan counts with five of it.
            Within(0.1, 0.2, $"{way}, batch {batch}", planned.PeakBytes, plan.PeakBytes);
        }

        prompt.Dispose();
        negative.Dispose();
    }

    /// <summary>In the order in which a budget tries them: each gives something for what it costs, and offloaded states do not grow with the steps.</summary>
    [Fact]
    public void Ways_TheirCostRises_AndOffloadedIsTheLeast()
    {
        var memory = new StableDiffusionMemory { Config = StableDiffusionConfig.Sd1, Height = 512, Width = 512, Steps = 50, Batch = 2, Dtype = ScalarType.BFloat16 };
        var weights = memory.Weights();
        List<MemoryEstimate> rows = [.. memory.Ways().Select(way => memory.Estimate(way, weights))];
        Assert.Equal("offloaded + checkpointing + slices + tiles 256 + fused attention", rows[^1].Way.ToString());
        Assert.Same(rows[^1], rows.MinBy(row => row.PeakBytes));
        var longer = memory with { Steps = 500 };
        Assert.Equal(rows[^1].StateBytes, longer.Estimate(rows[^1].Way, weights).StateBytes);
        Assert.True(longer.Estimate(rows[^2].Way, weights).StateBytes > 9 * rows[^2].StateBytes);
        Assert.True(longer.Estimate(rows[^1].Way, weights).Evaluations == 10 * rows[^1].Evaluations);
        // Half of the numbers' width, half of the bytes: all weights but no autoencoder that overflows.
        var wide = (memory with { Dtype = ScalarType.Float32 }).Weights();
        Assert.Equal((wide.UnetBytes, wide.AutoencoderBytes), (2 * weights.UnetBytes, 2 * weights.AutoencoderBytes));
        var half = (memory with { Dtype = ScalarType.Float16 }).Weights();
        Assert.Equal((weights.UnetBytes, wide.AutoencoderBytes), (half.UnetBytes, half.AutoencoderBytes));
    }

    private static long Size(ScalarType dtype) => dtype == ScalarType.Float32 ? 4 : 2;

    private static T Constant<T>(T network)
        where T : nn.Module
    {
        network.eval();
        foreach (var parameter in network.parameters())
            parameter.requires_grad = false;
        return network;
    }

    private static void Within(double below, double above, string what, long planned, long measured) =>
        Assert.True(planned >= (1 - below) * measured && planned <= (1 + above) * measured, $"{what}: measured {measured:n0}, planned {planned:n0}, {(double)planned / measured:f3}");
}
