using System.Diagnostics.CodeAnalysis;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Classifiers;

/// <summary>Makes the layers of a <see cref="SequentialClassifier"/> one after the other, knowing the channels on the way.</summary>
internal sealed class SequentialLayers(int channels)
{
    private readonly HashSet<string> _names = [];
    private readonly List<string> _maps = [];
    private int _index = -1;
    private bool _flattened;

    /// <summary>Channels of the last layer's maps.</summary>
    public int Channels { get; private set; } = channels;

    /// <summary>Length of the last layer's vector; null while there are maps, or while it is not known.</summary>
    public int? Features { get; private set; }

    /// <summary>Named layers that make maps.</summary>
    public IReadOnlyList<string> Maps => _maps;

    /// <summary>The next layer: its weights, if it has any, and what it does; null for an addition.</summary>
    public (nn.Module? Module, Func<Tensor, Tensor>? Apply) Next(LayerConfig layer)
    {
        _index++;
        if (layer.Name is { } name && (name.Contains('.', StringComparison.Ordinal) || !_names.Add(name)))
            Fail(layer, $"name '{name}' has a dot or is taken; choose another");
        var (module, apply) = Make(layer);
        if (module is not null && layer.Name is null)
            Fail(layer, "name is missing; give the one that the weights have in the file");
        if (layer.Name is { } map && !_flattened)
            _maps.Add(map);
        return (module, apply);
    }

    private (nn.Module? Module, Func<Tensor, Tensor>? Apply) Make(LayerConfig layer)
    {
        var kernel = layer.KernelSize;
        switch (layer.Type)
        {
            case LayerKind.Conv2d:
                Windowed(layer);
                Positive(layer, layer.OutChannels, "out_channels");
                var (groups, input) = (layer.Groups ?? 1, Channels);
                if (groups < 1 || input % groups != 0 || layer.OutChannels % groups != 0)
                    Fail(layer, $"groups {groups} does not divide {input} input and {layer.OutChannels} output channels");
                var stride = layer.Stride ?? 1;
                var conv = nn.Conv2d(input, layer.OutChannels, kernel, stride: stride, padding: layer.SamePadding ? 0 : layer.Padding, groups: groups, bias: layer.Bias ?? true);
                Channels = layer.OutChannels;
                return (conv, x => conv.call(Padded(layer, x, stride, 0)));
            case LayerKind.BatchNorm:
                var norm = new StoredBatchNorm(_flattened ? Vector(layer) : Channels, layer.Eps ?? 1e-5);
                return (norm, norm.call);
            case LayerKind.Linear:
                if (!_flattened)
                    Fail(layer, "it needs a vector: put flatten or global_average_pool before it");
                Positive(layer, layer.OutFeatures, "out_features");
                var linear = nn.Linear(Vector(layer), layer.OutFeatures, hasBias: layer.Bias ?? true);
                Features = layer.OutFeatures;
                return (linear, linear.call);
            case LayerKind.Relu:
                return (null, x => nn.functional.relu(x));
            case LayerKind.Relu6:
                return (null, x => nn.functional.relu6(x));
            case LayerKind.LeakyRelu:
                var slope = (layer.Slope ?? 0.01).ToScalar();
                return (null, x => x.leaky_relu(slope));
            case LayerKind.Silu:
                return (null, x => nn.functional.silu(x));
            case LayerKind.Tanh:
                return (null, x => x.tanh());
            case LayerKind.MaxPool2d:
                Windowed(layer);
                // What is padded must not win.
                return (null, x => nn.functional.max_pool2d(Padded(layer, x, layer.Stride ?? kernel, double.NegativeInfinity), kernel, stride: layer.Stride ?? kernel, padding: layer.SamePadding ? 0 : layer.Padding));
            case LayerKind.AvgPool2d:
                Windowed(layer);
                return layer.SamePadding || layer.Padding != 0
                    ? Fail(layer, "padding is not defined for an average; leave it out")
                    : (null, x => nn.functional.avg_pool2d(x, kernel, stride: layer.Stride ?? kernel));
            case LayerKind.GlobalAveragePool:
                OnMaps(layer);
                (_flattened, Features) = (true, Channels);
                return (null, x => x.mean([2, 3]));
            case LayerKind.Flatten:
                OnMaps(layer);
                _flattened = true;
                return (null, x => x.flatten(1));
            case LayerKind.Add:
                return layer.From is { } from && from != layer.Name && _names.Contains(from) ? (null, null) : Fail(layer, $"from is '{layer.From}', which is no layer before it");
            default:
                return Fail(layer, "this type is not known");
        }
    }

    private int Vector(LayerConfig layer)
    {
        if (layer.InFeatures > 0 && Features is { } known && known != layer.InFeatures)
            Fail(layer, $"in_features is {layer.InFeatures}, but the layer before it makes {known}");
        var length = Features ?? layer.InFeatures;
        Positive(layer, length, "in_features");
        return length;
    }

    private void Windowed(LayerConfig layer)
    {
        OnMaps(layer);
        Positive(layer, layer.KernelSize, "kernel_size");
        Positive(layer, layer.Stride ?? 1, "stride");
        if (layer.Padding < 0 || (layer.SamePadding && layer.Padding != 0))
            Fail(layer, $"padding is {layer.Padding}; give one of 0 or more, or same_padding alone");
    }

    private void OnMaps(LayerConfig layer)
    {
        if (_flattened)
            Fail(layer, "it needs maps, but a layer before it made a vector of them");
    }

    private void Positive(LayerConfig layer, int value, string field)
    {
        if (value < 1)
            Fail(layer, $"{field} is {value}; give a positive number");
    }

    [DoesNotReturn]
    private (nn.Module?, Func<Tensor, Tensor>?) Fail(LayerConfig layer, string why) =>
        throw new ModelConfigException($"layers[{_index}] ({layer.Type}{(layer.Name is null ? "" : $" '{layer.Name}'")}): {why}.");

    private static Tensor Padded(LayerConfig layer, Tensor x, int stride, double with)
    {
        if (!layer.SamePadding)
            return x;
        var (above, below) = Same(x.shape[2], layer.KernelSize, stride);
        var (left, right) = Same(x.shape[3], layer.KernelSize, stride);
        return above + below + left + right == 0 ? x : nn.functional.pad(x, [left, right, above, below], PaddingModes.Constant, with);
    }

    private static (long Before, long After) Same(long size, int kernel, int stride)
    {
        var total = Math.Max(((size + stride - 1) / stride - 1) * stride + kernel - size, 0);
        return (total / 2, total - total / 2);
    }

    /// <summary>Batch normalisation that never learns: y = (x − mean) / √(var + eps) · weight + bias.</summary>
    private sealed class StoredBatchNorm : nn.Module<Tensor, Tensor>
    {
        private readonly Parameter weight;
        private readonly Parameter bias;
        private readonly Tensor running_mean;
        private readonly Tensor running_var;
        private readonly double _eps;

        public StoredBatchNorm(long channels, double eps)
            : base(nameof(StoredBatchNorm))
        {
            _eps = eps;
            weight = new Parameter(ones(channels));
            bias = new Parameter(zeros(channels));
            running_mean = zeros(channels).DetachFromDisposeScope();
            running_var = ones(channels).DetachFromDisposeScope();
            RegisterComponents();
        }

        public override Tensor forward(Tensor x) => nn.functional.batch_norm(x, running_mean, running_var, weight, bias, training: false, eps: _eps);
    }
}
