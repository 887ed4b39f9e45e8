using AdjointDpm.Formats;
using AdjointDpm.Models.Clip;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>The names of CompVis' and Stability's single-file checkpoints for the tensors of diffusers' networks.</summary>
/// <remarks>Sources: diffusers' <c>single_file_utils.py</c> and the layouts of the released checkpoints.</remarks>
internal static class SingleFileNames
{
    public const string Unet = "model.diffusion_model.";
    public const string Autoencoder = "first_stage_model.";
    public const string AutoencoderAlone = "vae.";

    private static readonly (string Ours, string Theirs)[] Top =
    [
        ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
        ("add_embedding.linear_1", "label_emb.0.0"), ("add_embedding.linear_2", "label_emb.0.2"),
        ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"),
    ];

    private static readonly Dictionary<string, string> Resnet = new()
    {
        ["norm1"] = "in_layers.0",
        ["conv1"] = "in_layers.2",
        ["norm2"] = "out_layers.0",
        ["conv2"] = "out_layers.3",
        ["time_emb_proj"] = "emb_layers.1",
        ["conv_shortcut"] = "skip_connection",
    };

    private static readonly Dictionary<string, string> LatentAttention = new() { ["group_norm"] = "norm", ["to_q"] = "q", ["to_k"] = "k", ["to_v"] = "v", ["to_out"] = "proj_out" };

    /// <summary>The diffusion network's name in LDM's numbering of blocks, without prefix, for a tensor or a module.</summary>
    public static string OfUnet(string name, UNet2DConditionConfig config)
    {
        foreach (var (ours, theirs) in Top)
        {
            if (name == ours || name.StartsWith(ours + ".", StringComparison.Ordinal))
                return theirs + name[ours.Length..];
        }

        var part = name.Split('.');
        var layers = config.LayersPerBlock;
        if (part[0] == "mid_block")
        {
            var at = part[1] == "attentions" ? 1 : part[2] == "0" ? 0 : 2;
            return Join($"middle_block.{at}", part[1], part[3..]);
        }

        var (block, kind, layer) = (int.Parse(part[1]), part[2], int.Parse(part[3]));
        var down = part[0] == "down_blocks";
        return kind switch
        {
            "downsamplers" => $"input_blocks.{(block + 1) * (layers + 1)}.0.op" + Tail(part[5..]),
            // Behind the residual block, and behind the attention where there is one.
            "upsamplers" => $"output_blocks.{(block * (layers + 1)) + layers}.{(config.UpBlockTypes[block].StartsWith("CrossAttn", StringComparison.Ordinal) ? 2 : 1)}" + Tail(part[4..]),
            _ => Join($"{(down ? "input" : "output")}_blocks.{(block * (layers + 1)) + layer + (down ? 1 : 0)}.{(kind == "resnets" ? 0 : 1)}", kind, part[4..]),
        };
    }

    /// <summary>The autoencoder's name and form, without prefix.</summary>
    public static WeightEntry OfAutoencoder(string name, AutoencoderKLConfig config, string prefix)
    {
        var part = name.Split('.');
        var form = WeightForm.Same;
        string theirs;
        switch (part)
        {
            case [_, "mid_block", "attentions", _, .. var rest]:
                // Linear layers here, 1×1 convolutions there.
                form = rest[^1] == "weight" && rest[0] != "group_norm" ? WeightForm.Pointwise : WeightForm.Same;
                theirs = $"{part[0]}.mid.attn_1.{LatentAttention[rest[0]]}.{rest[^1]}";
                break;
            case [_, "mid_block", "resnets", var index, .. var rest]:
                theirs = $"{part[0]}.mid.block_{int.Parse(index) + 1}{Tail(Shortcut(rest))}";
                break;
            case ["encoder", "down_blocks", var block, "resnets", var layer, .. var rest]:
                theirs = $"encoder.down.{block}.block.{layer}{Tail(Shortcut(rest))}";
                break;
            case ["encoder", "down_blocks", var block, "downsamplers", _, .. var rest]:
                theirs = $"encoder.down.{block}.downsample{Tail(rest)}";
                break;
            case ["decoder", "up_blocks", var block, "resnets", var layer, .. var rest]:
                theirs = $"decoder.up.{Reversed(block)}.block.{layer}{Tail(Shortcut(rest))}";
                break;
            case ["decoder", "up_blocks", var block, "upsamplers", _, .. var rest]:
                theirs = $"decoder.up.{Reversed(block)}.upsample{Tail(rest)}";
                break;
            default:
                theirs = name.Replace("conv_norm_out", "norm_out", StringComparison.Ordinal);
                break;
        }

        return new(name, prefix + theirs, form);

        int Reversed(string block) => config.BlockOutChannels.Count - 1 - int.Parse(block);
        static string[] Shortcut(string[] rest) => [rest[0] == "conv_shortcut" ? "nin_shortcut" : rest[0], .. rest[1..]];
    }

    /// <summary>OpenCLIP's name and form of a text encoder's tensor.</summary>
    public static WeightEntry OfOpenClip(string name, string prefix)
    {
        var (theirs, form) = name.Split('.') switch
        {
            ["text_model", "embeddings", "token_embedding", "weight"] => ("token_embedding.weight", WeightForm.Same),
            ["text_model", "embeddings", "position_embedding", "weight"] => ("positional_embedding", WeightForm.Same),
            ["text_model", "final_layer_norm", var kind] => ($"ln_final.{kind}", WeightForm.Same),
            ["text_projection", "weight"] => ("text_projection", WeightForm.Transposed),
            [_, _, "layers", var n, "self_attn", "out_proj", var kind] => ($"transformer.resblocks.{n}.attn.out_proj.{kind}", WeightForm.Same),
            [_, _, "layers", var n, "self_attn", var which, var kind] => ($"transformer.resblocks.{n}.attn.in_proj_{kind}", which switch { "q_proj" => WeightForm.Query, "k_proj" => WeightForm.Key, _ => WeightForm.Value }),
            [_, _, "layers", var n, "mlp", var which, var kind] => ($"transformer.resblocks.{n}.mlp.{(which == "fc1" ? "c_fc" : "c_proj")}.{kind}", WeightForm.Same),
            [_, _, "layers", var n, var norm, var kind] => ($"transformer.resblocks.{n}.{(norm == "layer_norm1" ? "ln_1" : "ln_2")}.{kind}", WeightForm.Same),
            _ => (name, WeightForm.Same),
        };
        return new(name, prefix + theirs, form);
    }

    /// <summary>What a text encoder's part of a file may hold besides: positions, masks, and what Stable Diffusion does not use.</summary>
    public static bool UnusedText(string name, ClipTextConfig config)
    {
        if (name.EndsWith("position_ids", StringComparison.Ordinal) || name.EndsWith("attn_mask", StringComparison.Ordinal) || name.EndsWith("logit_scale", StringComparison.Ordinal) || name.EndsWith(".text_projection", StringComparison.Ordinal))
            return true;
        const string Blocks = "transformer.resblocks.";
        var at = name.IndexOf(Blocks, StringComparison.Ordinal);
        // Stable Diffusion 2 leaves the last layer out.
        return at >= 0 && int.TryParse(name.AsSpan(at + Blocks.Length, Math.Max(0, name.IndexOf('.', at + Blocks.Length) - at - Blocks.Length)), out var layer) && layer >= config.NumHiddenLayers;
    }

    private static string Join(string head, string kind, string[] rest) =>
        kind == "resnets" && rest.Length > 0 && Resnet.TryGetValue(rest[0], out var theirs) ? $"{head}.{theirs}{Tail(rest[1..])}" : head + Tail(rest);

    private static string Tail(string[] rest) => string.Concat(rest.Select(r => "." + r));
}
