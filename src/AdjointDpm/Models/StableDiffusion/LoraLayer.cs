using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Models.StableDiffusion;

/// <summary>How LoRA files name their tensors.</summary>
public enum LoraDialect
{
    /// <summary>diffusers and PEFT: <c>unet.down_blocks.….lora_A.weight</c>, with rank and alpha in the metadata.</summary>
    Diffusers,

    /// <summary>kohya's sd-scripts, which every interface reads: <c>lora_unet_down_blocks_….lora_down.weight</c> and <c>.alpha</c>; SDXL by LDM's block numbers.</summary>
    Kohya,
}

/// <summary>One adapter: W + (alpha / r) Up Down.</summary>
/// <param name="Component">The network: <c>unet</c>, <c>text_encoder</c> or <c>text_encoder_2</c>.</param>
/// <param name="Module">Path of the layer in it, such as <c>mid_block.attentions.0.proj_in</c>.</param>
/// <param name="Down">A: [r, in], or [r, in, k, k] for a convolution.</param>
/// <param name="Up">B: [out, r], or [out, r, 1, 1].</param>
/// <param name="Alpha">Scale times rank.</param>
public sealed record LoraLayer(string Component, string Module, Tensor Down, Tensor Up, double Alpha)
{
    /// <summary>The rank r.</summary>
    public int Rank => (int)Down.shape[0];

    /// <summary>(alpha / r) Up Down in the shape of the adapted weight, in float32 or wider; in the current dispose scope.</summary>
    public Tensor Product(long[] shape)
    {
        using var scope = NewDisposeScope();
        using Scalar scale = (Alpha / Rank).ToScalar();
        var (up, down) = (Up.Wide(), Down.Wide());
        return up.reshape(up.shape[0], -1).matmul(down.reshape(Rank, -1)).mul(scale).reshape(shape).MoveToOuterDisposeScope();
    }

    internal bool Fits(long[] weight) =>
        Down.dim() >= 2 && Up.dim() >= 2 && Rank > 0 && Up.numel() == Up.shape[0] * Rank && Up.shape[1] == Rank
        && Up.shape[0] == weight[0] && Down.numel() == Rank * weight[1..].Aggregate(1L, (a, b) => a * b);
}
