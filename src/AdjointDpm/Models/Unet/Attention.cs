using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Unet;

/// <summary>Multi-head attention from a sequence [B, N, C] to a context [B, M, D]; diffusers' <c>Attention</c> with its parameter names.</summary>
/// <remarks>
/// Plain matrix products and softmax: they work in every dtype, have second derivatives, and give the same bits each time, none
/// of which the fused kernel promises. It keeps no weights of N by M for the way back, though: <see cref="IsFused"/>.
/// </remarks>
internal sealed class Attention : nn.Module<Tensor, Tensor, Tensor>
{
    private readonly Linear to_q;
    private readonly Linear to_k;
    private readonly Linear to_v;
    private readonly ModuleList<nn.Module<Tensor, Tensor>> to_out;
    private readonly long _heads;
    private readonly bool _upcast;
    private readonly Scalar _scale;

    public Attention(long channels, long contextChannels, long heads, long headDim, bool bias = false, bool upcast = false, double dropout = 0)
        : base(nameof(Attention))
    {
        (_heads, _upcast) = (heads, upcast);
        _scale = 1 / Math.Sqrt(headDim);
        var inner = heads * headDim;
        to_q = Layers.Linear(channels, inner, hasBias: bias);
        to_k = Layers.Linear(contextChannels, inner, hasBias: bias);
        to_v = Layers.Linear(contextChannels, inner, hasBias: bias);
        to_out = nn.ModuleList<nn.Module<Tensor, Tensor>>(Layers.Linear(inner, channels), nn.Dropout(dropout));
        RegisterComponents();
    }

    /// <summary>Whether libtorch's scaled_dot_product_attention is used.</summary>
    public bool IsFused { get; set; }

    /// <summary>Sets the attentions of a network.</summary>
    public static void Fuse(nn.Module network, bool fused)
    {
        foreach (var attention in network.modules().OfType<Attention>())
            attention.IsFused = fused;
    }

    public override Tensor forward(Tensor x, Tensor context) => Run(x, () => context);

    /// <summary>The attention with a handle of its context for each place that reads it: keys, then values.</summary>
    public Tensor Run(Tensor x, Func<Tensor> context)
    {
        using var scope = NewDisposeScope();
        var (q, k, v) = (Split(to_q.call(x), _heads), Split(to_k.call(context()), _heads), Split(to_v.call(context()), _heads));
        if (_upcast)
            (q, k) = (q.to(float32), k.to(float32));
        // Its scale is the same 1/√d.
        var mixed = IsFused ? nn.functional.scaled_dot_product_attention(q, k, v.to(q.dtype)).to(v.dtype)
            : q.matmul(k.transpose(-1, -2)).mul(_scale).softmax(-1).to(v.dtype).matmul(v);
        var joined = mixed.transpose(1, 2).reshape(x.shape[0], x.shape[1], -1);
        return to_out[1].call(to_out[0].call(joined)).MoveToOuterDisposeScope();
    }

    /// <summary>[B, N, heads·d] to [B, heads, N, d].</summary>
    public static Tensor Split(Tensor x, long heads) => x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2);
}
