using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Unet;

/// <summary>Self-attention over the pixels of a feature map, added to its input; what <c>UNet2DModel</c> puts behind residual blocks. Shape [B, C, H, W].</summary>
/// <remarks>diffusers' <c>Attention</c> with group norm, biases and residual connection; once called <c>AttentionBlock</c>.</remarks>
internal sealed class SpatialAttention : nn.Module<Tensor, Tensor>
{
    private readonly GroupNorm? group_norm;
    private readonly Linear to_q;
    private readonly Linear to_k;
    private readonly Linear to_v;
    private readonly ModuleList<nn.Module<Tensor, Tensor>> to_out;
    private readonly long _heads;
    private readonly Scalar _scale;
    private readonly Scalar? _outputScale;

    /// <param name="channels">Channels of the map.</param>
    /// <param name="headDim">Channels of one head.</param>
    /// <param name="groups">Groups of the normalisation; null for none.</param>
    /// <param name="eps">Epsilon of the normalisation.</param>
    /// <param name="outputScale">The sum is divided by this.</param>
    public SpatialAttention(long channels, long headDim, long? groups, double eps, double outputScale = 1)
        : base(nameof(SpatialAttention))
    {
        if (headDim <= 0 || channels % headDim != 0)
            throw new ModelConfigException($"attention_head_dim {headDim} does not divide {channels} channels. Choose a divisor, or null for a single head.");
        _heads = channels / headDim;
        _scale = 1 / Math.Sqrt(headDim);
        _outputScale = outputScale == 1 ? null : 1 / outputScale;
        group_norm = groups is { } n ? new GroupNorm(n, channels, eps) : null;
        to_q = Layers.Linear(channels, channels);
        to_k = Layers.Linear(channels, channels);
        to_v = Layers.Linear(channels, channels);
        to_out = nn.ModuleList<nn.Module<Tensor, Tensor>>(Layers.Linear(channels, channels), nn.Dropout(0));
        RegisterComponents();
    }

    /// <summary>Whether the result is the input itself plus something.</summary>
    public bool Adds => _outputScale is null;

    public override Tensor forward(Tensor x) => Run(x, x);

    /// <summary>The block with a handle of its input for each place that reads it: the attention and the sum.</summary>
    public Tensor Run(Tensor x, Tensor around)
    {
        using var scope = NewDisposeScope();
        var normed = group_norm is null ? x : group_norm.call(x);
        var sequence = normed.flatten(2).transpose(1, 2);
        var (q, k, v) = (Attention.Split(to_q.call(sequence), _heads), Attention.Split(to_k.call(sequence), _heads), Attention.Split(to_v.call(sequence), _heads));
        var mixed = q.matmul(k.transpose(-1, -2)).mul(_scale).softmax(-1).matmul(v);
        var joined = to_out[0].call(mixed.transpose(1, 2).reshape(x.shape[0], -1, x.shape[1]));
        var y = joined.transpose(1, 2).reshape(x.shape).Plus(around);
        if (_outputScale is not null)
            y = y.mul(_outputScale);
        return y.MoveToOuterDisposeScope();
    }
}
