using AdjointDpm.Models.Unet;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Clip;

/// <summary>What a layer of either tower is built from.</summary>
/// <param name="Width">Width of the states.</param>
/// <param name="Inner">Width inside the feed-forward layer.</param>
/// <param name="Heads">Attention heads.</param>
/// <param name="Activation">Activation, by its name in configurations.</param>
/// <param name="Epsilon">Epsilon of the normalisations.</param>
/// <param name="Causal">Whether a state sees only those before it, as in texts.</param>
internal sealed record LayerShape(int Width, int Inner, int Heads, string Activation, double Epsilon, bool Causal)
{
    public static LayerShape Of(ClipTextConfig c) => new(c.HiddenSize, c.IntermediateSize, c.NumAttentionHeads, c.HiddenAct, c.LayerNormEps, true);

    public static LayerShape Of(ClipVisionConfig c) => new(c.HiddenSize, c.IntermediateSize, c.NumAttentionHeads, c.HiddenAct, c.LayerNormEps, false);
}

/// <summary>transformers' <c>CLIPEncoder</c>: the stack of layers.</summary>
internal sealed class ClipEncoder : nn.Module
{
    private readonly ModuleList<ClipLayer> layers;

    public ClipEncoder(LayerShape shape, int count)
        : base(nameof(ClipEncoder))
    {
        layers = nn.ModuleList([.. Enumerable.Range(0, count).Select(_ => new ClipLayer(shape))]);
        RegisterComponents();
    }

    public List<Tensor> Run(Tensor x, int? count = null)
    {
        var states = new List<Tensor> { x };
        foreach (var layer in count is { } some ? layers.Take(some) : layers)
            states.Add(x = layer.call(x));
        return states;
    }
}

/// <summary>transformers' <c>CLIPEncoderLayer</c>: self-attention and a feed-forward layer, each behind a normalisation. Shape [B, N, C].</summary>
internal sealed class ClipLayer : nn.Module<Tensor, Tensor>
{
    private readonly ClipAttention self_attn;
    private readonly LayerNorm layer_norm1;
    private readonly ClipFeedForward mlp;
    private readonly LayerNorm layer_norm2;

    public ClipLayer(LayerShape shape)
        : base(nameof(ClipLayer))
    {
        self_attn = new ClipAttention(shape);
        layer_norm1 = nn.LayerNorm(shape.Width, shape.Epsilon);
        mlp = new ClipFeedForward(shape);
        layer_norm2 = nn.LayerNorm(shape.Width, shape.Epsilon);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = self_attn.call(layer_norm1.call(x)).Plus(x);
        return mlp.call(layer_norm2.call(x)).Plus(x).MoveToOuterDisposeScope();
    }
}

/// <summary>transformers' <c>CLIPAttention</c>, of texts with a causal mask.</summary>
internal sealed class ClipAttention : nn.Module<Tensor, Tensor>
{
    private static readonly Scalar Never = double.NegativeInfinity;
    private readonly Linear k_proj;
    private readonly Linear v_proj;
    private readonly Linear q_proj;
    private readonly Linear out_proj;
    private readonly long _heads;
    private readonly Scalar _scale;
    private readonly bool _causal;

    public ClipAttention(LayerShape shape)
        : base(nameof(ClipAttention))
    {
        _causal = shape.Causal;
        long width = shape.Width;
        _heads = shape.Heads;
        if (_heads <= 0 || width % _heads != 0)
            throw new ModelConfigException($"num_attention_heads {_heads} does not divide hidden_size {width}.");
        _scale = 1 / Math.Sqrt((double)width / _heads);
        k_proj = Layers.Linear(width, width);
        v_proj = Layers.Linear(width, width);
        q_proj = Layers.Linear(width, width);
        out_proj = Layers.Linear(width, width);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (q, k, v) = (Attention.Split(q_proj.call(x), _heads), Attention.Split(k_proj.call(x), _heads), Attention.Split(v_proj.call(x), _heads));
        var scores = q.mul(_scale).matmul(k.transpose(-1, -2));
        if (_causal)
            scores = scores.masked_fill(ones(x.shape[1], x.shape[1], dtype: ScalarType.Bool, device: x.device).triu(1), Never);
        var weights = scores.softmax(-1);
        return out_proj.call(weights.matmul(v).transpose(1, 2).reshape(x.shape)).MoveToOuterDisposeScope();
    }
}

/// <summary>transformers' <c>CLIPMLP</c>.</summary>
internal sealed class ClipFeedForward : nn.Module<Tensor, Tensor>
{
    private readonly Linear fc1;
    private readonly Linear fc2;
    private readonly Func<Tensor, Tensor> _activation;

    public ClipFeedForward(LayerShape shape)
        : base(nameof(ClipFeedForward))
    {
        _activation = Activation.Named(shape.Activation, "hidden_act");
        fc1 = Layers.Linear(shape.Width, shape.Inner);
        fc2 = Layers.Linear(shape.Inner, shape.Width);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return fc2.call(_activation(fc1.call(x))).MoveToOuterDisposeScope();
    }
}
