using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Unet;

/// <summary>How the transformers of a conditional network are built.</summary>
/// <param name="ContextChannels">Width of the conditioning sequence.</param>
/// <param name="Groups">Groups of the normalisation in front.</param>
/// <param name="LinearProjection">Projections are linear layers (SD2, SDXL), not 1×1 convolutions (SD1).</param>
/// <param name="OnlyCross">The first attention of a block looks at the context too.</param>
/// <param name="Upcast">Attention weights are computed in float32.</param>
internal sealed record TransformerOptions(long ContextChannels, long Groups, bool LinearProjection, bool OnlyCross, bool Upcast);

/// <summary>diffusers' <c>Transformer2DModel</c>: transformer blocks over the pixels of a feature map, added to their input. Shape [B, C, H, W].</summary>
internal sealed class Transformer : nn.Module<Tensor, Tensor, Tensor>
{
    // Transformer2DModel does not take norm_eps from the configuration.
    private const double Eps = 1e-6;
    private readonly GroupNorm norm;
    private readonly nn.Module<Tensor, Tensor> proj_in;
    private readonly ModuleList<TransformerBlock> transformer_blocks;
    private readonly nn.Module<Tensor, Tensor> proj_out;
    private readonly bool _linear;

    public Transformer(long channels, long heads, int depth, TransformerOptions options)
        : base(nameof(Transformer))
    {
        if (heads <= 0 || channels % heads != 0)
            throw new ModelConfigException($"{heads} attention heads (the configuration's attention_head_dim or num_attention_heads) do not divide {channels} channels.");
        _linear = options.LinearProjection;
        norm = new GroupNorm(options.Groups, channels, Eps);
        proj_in = Projection(channels);
        transformer_blocks = nn.ModuleList([.. Enumerable.Range(0, depth).Select(_ => new TransformerBlock(channels, heads, options))]);
        proj_out = Projection(channels);
        RegisterComponents();
    }

    /// <summary>Places that read the context.</summary>
    public int ContextUses => transformer_blocks.Sum(block => block.ContextUses);

    public override Tensor forward(Tensor x, Tensor context) => Run(x, x, () => context);

    /// <summary>The transformer with a handle of its inputs for each place that reads them.</summary>
    /// <param name="x">Goes through the blocks.</param>
    /// <param name="around">The same, for the sum.</param>
    /// <param name="context">Gives the conditioning to the next place that reads it.</param>
    public Tensor Run(Tensor x, Tensor around, Func<Tensor> context)
    {
        using var scope = NewDisposeScope();
        var h = norm.call(x);
        h = _linear ? proj_in.call(Sequence(h)) : Sequence(proj_in.call(h));
        foreach (var block in transformer_blocks)
            h = block.Run(h, context);
        h = _linear ? Map(proj_out.call(h), x.shape) : proj_out.call(Map(h, x.shape));
        return h.Plus(around).MoveToOuterDisposeScope();
    }

    private nn.Module<Tensor, Tensor> Projection(long channels) => _linear ? Layers.Linear(channels, channels) : Layers.Conv2d(channels, channels, 1);

    private static Tensor Sequence(Tensor map) => map.flatten(2).transpose(1, 2);

    private static Tensor Map(Tensor sequence, long[] shape) => sequence.transpose(1, 2).reshape(shape);
}

/// <summary>diffusers' <c>BasicTransformerBlock</c>: self-attention, attention to the context, and a gated feed-forward layer. Shape [B, N, C].</summary>
internal sealed class TransformerBlock : nn.Module<Tensor, Tensor, Tensor>
{
    private readonly LayerNorm norm1;
    private readonly Attention attn1;
    private readonly LayerNorm norm2;
    private readonly Attention attn2;
    private readonly LayerNorm norm3;
    private readonly FeedForward ff;
    private readonly bool _onlyCross;

    public TransformerBlock(long channels, long heads, TransformerOptions options)
        : base(nameof(TransformerBlock))
    {
        _onlyCross = options.OnlyCross;
        norm1 = nn.LayerNorm(channels);
        attn1 = new Attention(channels, options.OnlyCross ? options.ContextChannels : channels, heads, channels / heads, upcast: options.Upcast);
        norm2 = nn.LayerNorm(channels);
        attn2 = new Attention(channels, options.ContextChannels, heads, channels / heads, upcast: options.Upcast);
        norm3 = nn.LayerNorm(channels);
        ff = new FeedForward(channels);
        RegisterComponents();
    }

    /// <summary>Places that read the context: keys and values of one attention or of both.</summary>
    public int ContextUses => _onlyCross ? 4 : 2;

    public override Tensor forward(Tensor x, Tensor context) => Run(x, () => context);

    /// <summary>The block, given the context for each place that reads it.</summary>
    public Tensor Run(Tensor x, Func<Tensor> context)
    {
        using var scope = NewDisposeScope();
        var normed = norm1.call(x);
        x = attn1.Run(normed, _onlyCross ? context : () => normed).Plus(x);
        x = attn2.Run(norm2.call(x), context).Plus(x);
        x = ff.call(norm3.call(x)).Plus(x);
        return x.MoveToOuterDisposeScope();
    }
}

/// <summary>diffusers' <c>FeedForward</c> with GEGLU: widens four times, gates by an exact GELU, narrows again.</summary>
internal sealed class FeedForward : nn.Module<Tensor, Tensor>
{
    private readonly ModuleList<nn.Module<Tensor, Tensor>> net;

    public FeedForward(long channels)
        : base(nameof(FeedForward))
    {
        var inner = 4 * channels;
        net = nn.ModuleList<nn.Module<Tensor, Tensor>>(new GatedProjection(channels, inner), nn.Dropout(0), Layers.Linear(inner, channels));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return net[2].call(net[1].call(net[0].call(x))).MoveToOuterDisposeScope();
    }

    private sealed class GatedProjection : nn.Module<Tensor, Tensor>
    {
        private readonly Linear proj;

        public GatedProjection(long channels, long inner)
            : base(nameof(GatedProjection))
        {
            proj = Layers.Linear(channels, 2 * inner);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            var parts = proj.call(x).chunk(2, -1);
            return parts[0].mul(nn.functional.gelu(parts[1])).MoveToOuterDisposeScope();
        }
    }
}
