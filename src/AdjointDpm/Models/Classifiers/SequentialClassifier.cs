using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Classifiers;

/// <summary>A classifier described by a list of layers, so that a network trained elsewhere (Keras, Darknet, PyTorch) is brought without a line of code. Feature layers: every named layer that makes maps of shape [B, C, h, w].</summary>
/// <remarks>For inference and gradients with respect to the image: batch normalisation always takes the stored statistics.</remarks>
public sealed class SequentialClassifier : ImageClassifier
{
    private readonly List<(LayerConfig Config, Func<Tensor, Tensor>? Apply)> _layers = [];
    private readonly HashSet<string> _added;
    private readonly (Scalar Factor, Scalar Offset) _range;
    private readonly Tensor? _mean;
    private readonly Tensor? _std;

    /// <summary>Builds the network with random weights from libtorch's generator.</summary>
    /// <exception cref="ModelConfigException">A layer misses a field, has a name twice or adds a layer that does not come before it.</exception>
    public SequentialClassifier(SequentialClassifierConfig config)
        : base(nameof(SequentialClassifier))
    {
        Config = config;
        _range = ((config.InputMax - config.InputMin) / 2, (config.InputMax + config.InputMin) / 2);
        _mean = PerChannel(config.Mean, "mean");
        _std = PerChannel(config.Std, "std");
        var build = new SequentialLayers(config.InChannels);
        foreach (var layer in config.Layers)
        {
            var (module, apply) = build.Next(layer);
            if (module is not null)
                register_module(layer.Name!, module);
            _layers.Add((layer, apply));
        }

        Classes = build.Features ?? throw new ModelConfigException($"layers ends in maps of {build.Channels} channels, not in logits. End it with global_average_pool, or with flatten and linear.");
        Layers = build.Maps;
        _added = [.. config.Layers.Select(l => l.From).OfType<string>()];
    }

    /// <summary>What the network was built from.</summary>
    public SequentialClassifierConfig Config { get; }

    /// <inheritdoc/>
    public override int Classes { get; }

    /// <inheritdoc/>
    public override IReadOnlyList<string> Layers { get; }

    /// <inheritdoc/>
    public override Tensor Logits(Tensor images)
    {
        using var scope = NewDisposeScope();
        return Run(images, _added, _layers.Count).Output.MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Tensor> Features(Tensor images)
    {
        // A net of dense layers alone makes none.
        if (Layers.Count == 0)
            return new Dictionary<string, Tensor>();
        using var scope = NewDisposeScope();
        var last = _layers.FindLastIndex(l => l.Config.Name == Layers[^1]) + 1;
        var kept = Run(images, [.. Layers], last).Kept;
        return Layers.ToDictionary(name => name, name => kept[name].MoveToOuterDisposeScope());
    }

    /// <inheritdoc/>
    public override void WriteConfig(string path) => ModelConfig.Write(path, Config);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _mean?.Dispose();
            _std?.Dispose();
            _range.Factor.Dispose();
            _range.Offset.Dispose();
        }

        base.Dispose(disposing);
    }

    /// <summary>What the network sees of images in [-1, 1].</summary>
    private Tensor Input(Tensor images)
    {
        var x = images.mul(_range.Factor).Plus(_range.Offset);
        if (Config.SampleSize is { } size && (x.shape[2] != size || x.shape[3] != size))
            x = nn.functional.interpolate(x, [size, size], mode: InterpolationMode.Bilinear, align_corners: false, antialias: x.shape[2] > size || x.shape[3] > size);
        if (x.shape[1] == 1 && Config.InChannels > 1)
            x = x.expand(-1, Config.InChannels, -1, -1);
        if (x.shape[1] != Config.InChannels)
            throw new ArgumentException($"The images have {x.shape[1]} channels, the classifier takes {Config.InChannels}. Give it images of {Config.InChannels} or of one channel.", nameof(images));
        if (_mean is not null)
            x = x.sub(_mean.to(x.dtype, x.device));
        return _std is null ? x : x.div(_std.to(x.dtype, x.device));
    }

    private (Tensor Output, Dictionary<string, Tensor> Kept) Run(Tensor images, HashSet<string> keep, int count)
    {
        var kept = new Dictionary<string, Tensor>();
        var x = Input(images);
        foreach (var (layer, apply) in _layers.Take(count))
        {
            x = apply is null ? x.Plus(kept[layer.From!]) : apply(x);
            if (layer.Name is { } name && (keep.Contains(name) || _added.Contains(name)))
                kept[name] = x;
        }

        return (x, kept);
    }

    private Tensor? PerChannel(IReadOnlyList<double>? values, string field)
    {
        if (values is null)
            return null;
        return values.Count == Config.InChannels
            ? tensor(values.ToArray(), ScalarType.Float64).reshape(1, -1, 1, 1).DetachFromDisposeScope()
            : throw new ModelConfigException($"{field} has {values.Count} entries for {Config.InChannels} channels. Give one for each.");
    }
}
