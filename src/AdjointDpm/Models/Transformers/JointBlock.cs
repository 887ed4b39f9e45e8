using AdjointDpm.Models.Unet;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Transformers;

/// <summary>diffusers' <c>JointTransformerBlock</c>: patches [B, N, C] and states of the text [B, M, C], in one sequence [B, N + M, C], attend to each other.</summary>
internal sealed class JointBlock : nn.Module
{
    /// <summary>Places that read the time: one for each kind of token.</summary>
    public const int TimeUses = 2;

    private readonly AdaptiveNorm norm1;
    private readonly AdaptiveNorm norm1_context;
    private readonly JointAttention attn;
    private readonly JointAttention? attn2;
    private readonly PlainFeedForward ff;
    private readonly PlainFeedForward? ff_context;

    /// <param name="config">What the network is built from.</param>
    /// <param name="last">The text's states are not needed behind it.</param>
    /// <param name="dual">Patches attend to themselves alone, too.</param>
    public JointBlock(SD3TransformerConfig config, bool last, bool dual)
        : base(nameof(JointBlock))
    {
        var width = config.Width;
        norm1 = new AdaptiveNorm(width, dual ? 9 : 6);
        norm1_context = new AdaptiveNorm(width, last ? 2 : 6);
        attn = new JointAttention(config, joint: true, answersText: !last);
        attn2 = dual ? new JointAttention(config, joint: false, answersText: false) : null;
        ff = new PlainFeedForward(width);
        ff_context = last ? null : new PlainFeedForward(width);
        RegisterComponents();
    }

    /// <summary>The block with a handle of its input for each place that reads it.</summary>
    /// <param name="x">Goes into the layers.</param>
    /// <param name="around">The same, for the sums.</param>
    /// <param name="time">Gives the vector of time and text to the next place that reads it.</param>
    /// <param name="patches">How many of the tokens are patches.</param>
    /// <returns>The sequence; the patches alone behind the last block. In the current dispose scope.</returns>
    public Tensor Run(Tensor x, Tensor around, Func<Tensor> time, long patches)
    {
        using var scope = NewDisposeScope();
        var words = x.shape[1] - patches;
        // Shift, scale and gate of the attention, those of the layers behind it, and those of the second attention.
        var of = norm1.Parts(time());
        var text = norm1_context.Parts(time());
        var normed = AdaptiveNorm.Normed(x.narrow(1, 0, patches));
        var words1 = AdaptiveNorm.Normed(x.narrow(1, patches, words));
        // In the last block the scale comes first.
        words1 = ff_context is null ? AdaptiveNorm.Modulate(words1, text[1], text[0]) : AdaptiveNorm.Modulate(words1, text[0], text[1]);
        var (mixed, answers) = attn.Run(AdaptiveNorm.Modulate(normed, of[0], of[1]), words1);
        var h = around.narrow(1, 0, patches).Plus(of[2].mul(mixed));
        if (attn2 is not null)
            h = h.Plus(of[8].mul(attn2.Run(AdaptiveNorm.Modulate(normed, of[6], of[7]), null).Mixed));
        h = h.Plus(of[5].mul(ff.call(AdaptiveNorm.Modulate(AdaptiveNorm.Normed(h), of[3], of[4]))));
        if (ff_context is null)
            return h.MoveToOuterDisposeScope();
        var w = around.narrow(1, patches, words).Plus(text[2].mul(answers!));
        w = w.Plus(text[5].mul(ff_context.call(AdaptiveNorm.Modulate(AdaptiveNorm.Normed(w), text[3], text[4]))));
        return cat([h, w], 1).MoveToOuterDisposeScope();
    }
}

/// <summary>A normalisation without weights whose scale and shift follow from the time: diffusers' <c>AdaLayerNormZero</c> and <c>AdaLayerNormContinuous</c>.</summary>
internal sealed class AdaptiveNorm : nn.Module
{
    private const double Eps = 1e-6;
    private readonly Linear linear;
    private readonly int _parts;

    public AdaptiveNorm(long width, int parts)
        : base(nameof(AdaptiveNorm))
    {
        _parts = parts;
        linear = Layers.Linear(width, parts * width);
        RegisterComponents();
    }

    /// <summary>Shifts, scales and gates, each [B, 1, C].</summary>
    public Tensor[] Parts(Tensor time) => linear.call(nn.functional.silu(time)).unsqueeze(1).chunk(_parts, -1);

    public static Tensor Normed(Tensor x) => nn.functional.layer_norm(x, [x.shape[^1]], eps: Eps);

    public static Tensor Modulate(Tensor normed, Tensor shift, Tensor scale) => normed.mul(scale.Plus(Rooted.One)).Plus(shift);
}

/// <summary>diffusers' <c>Attention</c> with projections of its own for the text: [B, N, C] and [B, M, C], all tokens to all.</summary>
internal sealed class JointAttention : nn.Module
{
    private readonly Linear to_q;
    private readonly Linear to_k;
    private readonly Linear to_v;
    private readonly Linear? add_q_proj;
    private readonly Linear? add_k_proj;
    private readonly Linear? add_v_proj;
    private readonly ModuleList<nn.Module<Tensor, Tensor>> to_out;
    private readonly Linear? to_add_out;
    private readonly RootMeanSquareNorm? norm_q;
    private readonly RootMeanSquareNorm? norm_k;
    private readonly RootMeanSquareNorm? norm_added_q;
    private readonly RootMeanSquareNorm? norm_added_k;
    private readonly long _heads;
    private readonly Scalar _scale;

    /// <param name="config">What the network is built from.</param>
    /// <param name="joint">The text takes part.</param>
    /// <param name="answersText">The text's states get an answer.</param>
    public JointAttention(SD3TransformerConfig config, bool joint, bool answersText)
        : base(nameof(JointAttention))
    {
        long width = config.Width, head = config.AttentionHeadDim;
        _heads = config.NumAttentionHeads;
        _scale = 1 / Math.Sqrt(head);
        (to_q, to_k, to_v) = (Layers.Linear(width, width), Layers.Linear(width, width), Layers.Linear(width, width));
        if (joint)
            (add_q_proj, add_k_proj, add_v_proj) = (Layers.Linear(width, width), Layers.Linear(width, width), Layers.Linear(width, width));
        to_out = nn.ModuleList<nn.Module<Tensor, Tensor>>(Layers.Linear(width, width), nn.Dropout(0));
        to_add_out = answersText ? Layers.Linear(width, width) : null;
        if (config.QkNorm is not null)
        {
            (norm_q, norm_k) = (new RootMeanSquareNorm(head), new RootMeanSquareNorm(head));
            if (joint)
                (norm_added_q, norm_added_k) = (new RootMeanSquareNorm(head), new RootMeanSquareNorm(head));
        }

        RegisterComponents();
    }

    /// <summary>Answers to the patches and, where it takes part and gets one, to the text. In the current dispose scope.</summary>
    public (Tensor Mixed, Tensor? Text) Run(Tensor x, Tensor? text)
    {
        using var scope = NewDisposeScope();
        var (q, k, v) = (Heads(to_q, x, norm_q), Heads(to_k, x, norm_k), Heads(to_v, x, null));
        if (text is not null)
            (q, k, v) = (cat([q, Heads(add_q_proj!, text, norm_added_q)], 2), cat([k, Heads(add_k_proj!, text, norm_added_k)], 2), cat([v, Heads(add_v_proj!, text, null)], 2));
        var joined = q.matmul(k.transpose(-1, -2)).mul(_scale).softmax(-1).matmul(v).transpose(1, 2).reshape(x.shape[0], -1, x.shape[2]);
        var patches = x.shape[1];
        var answer = to_add_out?.call(joined.narrow(1, patches, text!.shape[1]));
        return (to_out[1].call(to_out[0].call(joined.narrow(1, 0, patches))).MoveToOuterDisposeScope(), answer?.MoveToOuterDisposeScope());
    }

    private Tensor Heads(Linear projection, Tensor x, RootMeanSquareNorm? norm)
    {
        var parts = Attention.Split(projection.call(x), _heads);
        return norm is null ? parts : norm.call(parts);
    }
}

/// <summary>diffusers' <c>RMSNorm</c> over the last dimension, in float32 at least.</summary>
internal sealed class RootMeanSquareNorm : nn.Module<Tensor, Tensor>
{
    private static readonly Scalar Eps = 1e-6;
    private readonly Parameter weight;

    public RootMeanSquareNorm(long width)
        : base(nameof(RootMeanSquareNorm))
    {
        weight = new Parameter(torch.ones(width));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var wide = x.Wide();
        var scale = wide.Squared().mean([-1], keepdim: true).Plus(Eps).rsqrt();
        return wide.mul(scale).to(x.dtype).mul(weight).MoveToOuterDisposeScope();
    }
}

/// <summary>diffusers' <c>FeedForward</c> without a gate: widens four times, an approximated GELU, narrows again.</summary>
internal sealed class PlainFeedForward : nn.Module<Tensor, Tensor>
{
    private readonly ModuleList<nn.Module<Tensor, Tensor>> net;

    public PlainFeedForward(long width)
        : base(nameof(PlainFeedForward))
    {
        net = nn.ModuleList<nn.Module<Tensor, Tensor>>(new Projection(width, 4 * width), nn.Dropout(0), Layers.Linear(4 * width, width));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return net[2].call(net[1].call(net[0].call(x))).MoveToOuterDisposeScope();
    }

    private sealed class Projection : nn.Module<Tensor, Tensor>
    {
        private readonly Linear proj;

        public Projection(long width, long inner)
            : base(nameof(Projection))
        {
            proj = Layers.Linear(width, inner);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            return proj.call(x).gelu(GELU.Approximate.tanh).MoveToOuterDisposeScope();
        }
    }
}
