using AdjointDpm.Models.Unet;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Transformers;

/// <summary>diffusers' <c>SD3Transformer2DModel</c>: the multimodal diffusion transformer of Stable Diffusion 3 and 3.5, which predicts the velocity of flow matching.</summary>
/// <remarks>
/// Esser et al. (2024). Parameter names are diffusers' own. Patches of the picture and the text's states are one sequence, with weights of their own
/// for each kind in all but the attention. Differentiable in the sample, the text's states, the pooled text and all parameters.
/// </remarks>
public sealed class SD3Transformer2DModel : nn.Module<Tensor, Tensor, Tensor, Tensor, Tensor>
{
    private readonly PatchEmbedding pos_embed;
    private readonly TimeTextEmbedding time_text_embed;
    private readonly Linear context_embedder;
    private readonly ModuleList<JointBlock> transformer_blocks;
    private readonly AdaptiveNorm norm_out;
    private readonly Linear proj_out;

    /// <summary>Builds the network with random weights from libtorch's generator.</summary>
    /// <exception cref="ModelConfigException">The configuration contradicts itself or asks for what is not supported.</exception>
    public SD3Transformer2DModel(SD3TransformerConfig config)
        : base(nameof(SD3Transformer2DModel))
    {
        Config = config;
        var width = config.Width;
        if (config.CaptionProjectionDim != width)
            throw new ModelConfigException($"caption_projection_dim is {config.CaptionProjectionDim}, but {config.NumAttentionHeads} heads of {config.AttentionHeadDim} are {width} wide. They have to be equal.");
        if (config.QkNorm is not (null or "rms_norm"))
            throw new ModelConfigException($"qk_norm is '{config.QkNorm}'. Supported: null, rms_norm.");
        if (config.DualAttentionLayers.Any(i => i < 0 || i >= config.NumLayers))
            throw new ModelConfigException($"dual_attention_layers is [{string.Join(", ", config.DualAttentionLayers)}], but there are {config.NumLayers} blocks, from 0.");
        pos_embed = new PatchEmbedding(config);
        time_text_embed = new TimeTextEmbedding(config.PooledProjectionDim, width);
        context_embedder = Layers.Linear(config.JointAttentionDim, width);
        transformer_blocks = nn.ModuleList([.. Enumerable.Range(0, config.NumLayers).Select(i => new JointBlock(config, last: i == config.NumLayers - 1, dual: config.DualAttentionLayers.Contains(i)))]);
        norm_out = new AdaptiveNorm(width, 2);
        proj_out = Layers.Linear(width, config.PatchSize * config.PatchSize * (config.OutChannels ?? config.InChannels));
        RegisterComponents();
    }

    /// <summary>What the network was built from.</summary>
    public SD3TransformerConfig Config { get; }

    /// <summary>Keeps of every block only what goes into it, and computes the block again when the gradient passes it. The same gradient, bit for bit. Second derivatives are refused. Default: false.</summary>
    /// <remarks>Differentiate by <see cref="Gradients.Vjp"/>, which throws what goes wrong on the way back. Autograd's own <c>backward()</c> cannot: gradients are NaN then, and the next evaluation on the thread throws the reason.</remarks>
    public bool Checkpointing { get; set; }

    /// <summary>The velocity ε − x₀ [B, C', H, W], in the current dispose scope.</summary>
    /// <param name="sample">Noisy latents [B, C, H, W] in the network's dtype; H and W multiples of the patch, at most the table of positions.</param>
    /// <param name="timestep">Times, [B] or a single number, in trained steps: the noise level times 1000.</param>
    /// <param name="states">States of the text, [B, N, joint_attention_dim], in the network's dtype.</param>
    /// <param name="pooled">Pooled text, [B, pooled_projection_dim], in the network's dtype.</param>
    /// <exception cref="ArgumentException">The latents have a size that the network does not take.</exception>
    public override Tensor forward(Tensor sample, Tensor timestep, Tensor states, Tensor pooled)
    {
        using var scope = NewDisposeScope();
        var (batch, p) = (sample.shape[0], (long)Config.PatchSize);
        var patches = pos_embed.call(sample);
        var time = time_text_embed.call(timestep.reshape(-1).expand(batch), pooled);
        var x = cat([patches, context_embedder.call(states)], 1);
        var count = patches.shape[1];
        using var recomputed = Recomputed.Use(Checkpointing);
        foreach (var block in transformer_blocks)
        {
            x = Recomputed.IsOn
                ? Recomputed.Of(block, x, time, JointBlock.TimeUses, adds: false, (layers, around, shared) => block.Run(layers, around, shared, count))
                : block.Run(x, x, () => time, count);
        }

        var modulation = norm_out.Parts(time);
        var h = proj_out.call(AdaptiveNorm.Modulate(AdaptiveNorm.Normed(x.narrow(1, 0, count)), shift: modulation[1], scale: modulation[0]));
        var (height, width) = (sample.shape[2], sample.shape[3]);
        return h.reshape(batch, height / p, width / p, p, p, -1).permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, height, width).MoveToOuterDisposeScope();
    }
}

/// <summary>diffusers' <c>CombinedTimestepTextProjEmbeddings</c>: times [B] and pooled text [B, P] to one vector [B, C].</summary>
internal sealed class TimeTextEmbedding : nn.Module<Tensor, Tensor, Tensor>
{
    private const int Frequencies = 256;
    private readonly SinusoidalTimes _times = new(Frequencies, flipSinToCos: true, freqShift: 0);
    private readonly TimeEmbedding timestep_embedder;
    private readonly TimeEmbedding text_embedder;

    public TimeTextEmbedding(long pooled, long width)
        : base(nameof(TimeTextEmbedding))
    {
        timestep_embedder = new TimeEmbedding(Frequencies, width, "silu");
        text_embedder = new TimeEmbedding(pooled, width, "silu");
        RegisterComponents();
    }

    public override Tensor forward(Tensor times, Tensor pooled)
    {
        using var scope = NewDisposeScope();
        return timestep_embedder.call(_times.call(times).to(pooled.dtype)).Plus(text_embedder.call(pooled)).MoveToOuterDisposeScope();
    }
}
