using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;

namespace AdjointDpm.Models.Memory;

/// <summary>Networks as tapes, from their configurations alone.</summary>
internal static class NetworkTapes
{
    /// <summary>One evaluation of a conditional UNet.</summary>
    /// <param name="config">The network.</param>
    /// <param name="blocks">Batch, dtype, what is trained.</param>
    /// <param name="height">Of the latent.</param>
    /// <param name="width">Of the latent.</param>
    /// <param name="context">Length of the conditioning sequence.</param>
    public static Tape Unet(UNet2DConditionConfig config, BlockTapes blocks, long height, long width, long context)
    {
        var tape = new Tape();
        var channels = config.BlockOutChannels;
        var stages = channels.Count;
        var (h, w) = (height, width);
        tape.Add(blocks.Map(config.InChannels, h, w), forward: blocks.Map(channels[0], h, w));
        List<(long Channels, long Height, long Width)> skips = [(channels[0], h, w)];
        for (var i = 0; i < stages; i++)
        {
            for (var j = 0; j < config.LayersPerBlock; j++)
            {
                blocks.Resnet(tape, j == 0 ? channels[Math.Max(i - 1, 0)] : channels[i], channels[i], h, w, hasTime: true);
                if (config.DownBlockTypes[i] == "CrossAttnDownBlock2D")
                    blocks.Transformer(tape, $"down_blocks.{i}.attentions.{j}", Shape(config, channels[i], i, context), h, w);
                skips.Add((channels[i], h, w));
            }

            if (i == stages - 1)
                continue;
            var before = blocks.Map(channels[i], h, w);
            (h, w) = ((h + 1) / 2, (w + 1) / 2);
            tape.Add(before, forward: blocks.Map(channels[i], h, w), backward: 2 * before);
            skips.Add((channels[i], h, w));
        }

        if (config.MidBlockType is not null)
        {
            blocks.Resnet(tape, channels[^1], channels[^1], h, w, hasTime: true);
            blocks.Transformer(tape, "mid_block.attentions.0", Shape(config, channels[^1], stages - 1, context), h, w);
            blocks.Resnet(tape, channels[^1], channels[^1], h, w, hasTime: true);
        }

        var x = (long)channels[^1];
        for (var i = 0; i < stages; i++)
        {
            var output = channels[stages - 1 - i];
            for (var j = 0; j <= config.LayersPerBlock; j++)
            {
                var skip = skips[^1];
                skips.RemoveAt(skips.Count - 1);
                (h, w) = (skip.Height, skip.Width);
                // What came up is copied beside what came across.
                tape.Add(0, held: blocks.Map(x, h, w), forward: blocks.Map(x + skip.Channels, h, w));
                blocks.Resnet(tape, x + skip.Channels, output, h, w, hasTime: true);
                x = output;
                if (config.UpBlockTypes[i] == "CrossAttnUpBlock2D")
                    blocks.Transformer(tape, $"up_blocks.{i}.attentions.{j}", Shape(config, output, stages - 1 - i, context), h, w);
            }

            if (i == stages - 1)
                continue;
            var (before, larger) = (blocks.Map(x, h, w), blocks.Map(x, skips[^1].Height, skips[^1].Width));
            tape.Add(larger, held: before, forward: larger, backward: 2 * larger);
        }

        Last(tape, blocks, channels[0], config.OutChannels, h, w);
        return tape;
    }

    /// <summary>Decoding latents with an autoencoder.</summary>
    public static Tape Decoder(AutoencoderKLConfig config, BlockTapes blocks, long height, long width)
    {
        var tape = new Tape();
        int[] channels = [.. config.BlockOutChannels.Reverse()];
        var (h, w, x) = (height, width, (long)channels[0]);
        tape.Add(2 * blocks.Map(config.LatentChannels, h, w), forward: blocks.Map(x, h, w));
        blocks.Resnet(tape, x, x, h, w, hasTime: false);
        if (config.MidBlockAddAttention)
            blocks.Spatial(tape, x, 1, h, w);
        blocks.Resnet(tape, x, x, h, w, hasTime: false);
        for (var i = 0; i < channels.Length; i++)
        {
            for (var j = 0; j <= config.LayersPerBlock; j++)
            {
                blocks.Resnet(tape, x, channels[i], h, w, hasTime: false);
                x = channels[i];
            }

            if (i == channels.Length - 1)
                continue;
            (h, w) = (2 * h, 2 * w);
            var larger = blocks.Map(x, h, w);
            tape.Add(larger, held: larger / 4, forward: larger, backward: 2 * larger);
        }

        Last(tape, blocks, x, config.OutChannels, h, w);
        return tape;
    }

    private static void Last(Tape tape, BlockTapes blocks, long channels, long output, long height, long width)
    {
        var (map, result) = (blocks.Map(channels, height, width), blocks.Map(output, height, width));
        tape.Add(map, forward: map);
        tape.Add(map, forward: map, backward: 2 * map);
        tape.Add(map, forward: result, backward: map + (2 * result));
    }

    private static TransformerShape Shape(UNet2DConditionConfig config, long channels, int stage, long context)
    {
        var stages = config.BlockOutChannels.Count;
        return new(channels, (config.NumAttentionHeads ?? config.AttentionHeadDim).At(stage, stages, "attention_head_dim"), config.TransformerLayersPerBlock.At(stage, stages, "transformer_layers_per_block"),
            context, config.CrossAttentionDim.At(stage, stages, "cross_attention_dim"), config.UseLinearProjection, config.OnlyCrossAttention, config.UpcastAttention);
    }
}
