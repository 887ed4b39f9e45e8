using System.Text.Json.Serialization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Classifiers;

/// <summary>Configuration of a <see cref="ResidualClassifier"/>.</summary>
public sealed record ResidualClassifierConfig
{
    /// <summary>Class the folder is for.</summary>
    [JsonPropertyName("_class_name"), JsonPropertyOrder(-1)]
    public string ClassName { get; init; } = nameof(ResidualClassifier);

    /// <summary>Channels of the images. Default: 1.</summary>
    public int InChannels { get; init; } = 1;

    /// <summary>Number of classes. Default: 10.</summary>
    public int NumClasses { get; init; } = 10;

    /// <summary>Channels of each stage; every stage after the first halves the resolution. Default: 16, 32.</summary>
    public IReadOnlyList<int> Channels { get; init; } = [16, 32];

    /// <summary>Stride of the first convolution: 2 for images of 28 pixels, 1 for 8. Default: 2.</summary>
    public int StemStride { get; init; } = 2;

    /// <summary>Kernel of every convolution. Default: 5.</summary>
    public int KernelSize { get; init; } = 5;

    /// <summary>Groups of the normalisations. Default: 8.</summary>
    public int NormNumGroups { get; init; } = 8;
}

/// <summary>A small residual network with group normalisation, SiLU and global average pooling. Feature layers <c>stem</c>, <c>stage1</c>, <c>stage2</c>, …</summary>
/// <remarks>It shares nothing with <see cref="ConvClassifier"/> but the data: what one of them is tuned towards, the other judges.</remarks>
public sealed class ResidualClassifier : ImageClassifier
{
    private const double Eps = 1e-5;
    private readonly Conv2d stem;
    private readonly ModuleList<Block> stages;
    private readonly Unet.GroupNorm norm;
    private readonly Linear head;

    /// <summary>Builds the network with random weights from libtorch's generator.</summary>
    public ResidualClassifier(ResidualClassifierConfig config)
        : base(nameof(ResidualClassifier))
    {
        Config = config;
        if (config.Channels.Count == 0 || config.KernelSize % 2 == 0)
            throw new ModelConfigException($"channels has {config.Channels.Count} entries and kernel_size is {config.KernelSize}: give at least one stage and an odd kernel.");
        var channels = config.Channels;
        stem = nn.Conv2d(config.InChannels, channels[0], config.KernelSize, stride: config.StemStride, padding: config.KernelSize / 2);
        stages = nn.ModuleList([.. Enumerable.Range(0, channels.Count).Select(i => new Block(channels[Math.Max(i - 1, 0)], channels[i], i == 0 ? 1 : 2, config))]);
        norm = new Unet.GroupNorm(config.NormNumGroups, channels[^1], Eps);
        head = nn.Linear(channels[^1], config.NumClasses);
        Layers = ["stem", .. Enumerable.Range(1, channels.Count).Select(i => $"stage{i}")];
        RegisterComponents();
    }

    /// <summary>What the network was built from.</summary>
    public ResidualClassifierConfig Config { get; }

    /// <inheritdoc/>
    public override int Classes => Config.NumClasses;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Layers { get; }

    /// <inheritdoc/>
    public override Tensor Logits(Tensor images)
    {
        using var scope = NewDisposeScope();
        var last = Activations(images)[^1];
        return head.call(nn.functional.silu(norm.call(last)).mean([2, 3])).MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    public override IReadOnlyDictionary<string, Tensor> Features(Tensor images)
    {
        using var scope = NewDisposeScope();
        return Layers.Zip(Activations(images)).ToDictionary(p => p.First, p => p.Second.MoveToOuterDisposeScope());
    }

    /// <inheritdoc/>
    public override void WriteConfig(string path) => ModelConfig.Write(path, Config);

    private List<Tensor> Activations(Tensor images)
    {
        var activations = new List<Tensor> { stem.call(images) };
        foreach (var stage in stages)
            activations.Add(stage.call(activations[^1]));
        return activations;
    }

    private sealed class Block : nn.Module<Tensor, Tensor>
    {
        private readonly Unet.GroupNorm norm1;
        private readonly Conv2d conv1;
        private readonly Unet.GroupNorm norm2;
        private readonly Conv2d conv2;
        private readonly Conv2d? shortcut;

        public Block(int input, int output, int stride, ResidualClassifierConfig config)
            : base(nameof(Block))
        {
            var kernel = config.KernelSize;
            norm1 = new Unet.GroupNorm(config.NormNumGroups, input, Eps);
            conv1 = nn.Conv2d(input, output, kernel, stride: stride, padding: kernel / 2);
            norm2 = new Unet.GroupNorm(config.NormNumGroups, output, Eps);
            conv2 = nn.Conv2d(output, output, kernel, padding: kernel / 2);
            shortcut = input == output && stride == 1 ? null : nn.Conv2d(input, output, 1, stride: stride);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            var h = conv1.call(nn.functional.silu(norm1.call(x)));
            h = conv2.call(nn.functional.silu(norm2.call(h)));
            return h.Plus(shortcut is null ? x : shortcut.call(x)).MoveToOuterDisposeScope();
        }
    }
}
