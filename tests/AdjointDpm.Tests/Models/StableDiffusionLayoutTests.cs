using AdjointDpm.Models.Unet;
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

    private static Dictionary<string, long[]> Shapes(UNet2DConditionConfig config)
    {
        var before = get_default_device();
        set_default_device(META);
        try
        {
            using var model = new UNet2DConditionModel(config);
            return model.state_dict().ToDictionary(p => p.Key, p => p.Value.shape);
        }
        finally
        {
            set_default_device(before);
        }
    }
}
