using System.Text.Json.Serialization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Classifiers;

/// <summary>Configuration of a <see cref="ConvClassifier"/>.</summary>
public sealed record ConvClassifierConfig
{
    /// <summary>Class the folder is for.</summary>
    [JsonPropertyName("_class_name"), JsonPropertyOrder(-1)]
    public string ClassName { get; init; } = nameof(ConvClassifier);

    /// <summary>Height and width of the images in pixels. Default: 28.</summary>
    public int SampleSize { get; init; } = 28;

    /// <summary>Channels of the images. Default: 1.</summary>
    public int InChannels { get; init; } = 1;

    /// <summary>Number of classes. Default: 10.</summary>
    public int NumClasses { get; init; } = 10;

    /// <summary>Channels of each convolution; the resolution halves between two of them. Default: 16, 32, 64.</summary>
    public IReadOnlyList<int> Channels { get; init; } = [16, 32, 64];

    /// <summary>Probability of dropout before the last layer, in training mode. Default: 0.2.</summary>
    public double Dropout { get; init; } = 0.2;
}

/// <summary>3×3 convolutions with ReLU and average pooling, then one linear layer. Feature layers <c>conv1</c>, <c>conv2</c>, …, taken behind the ReLU.</summary>
public sealed class ConvClassifier : ImageClassifier
{
    private readonly ModuleList<Conv2d> convs;
    private readonly Dropout dropout;
    private readonly Linear head;

    /// <summary>Builds the network with random weights from libtorch's generator.</summary>
    public ConvClassifier(ConvClassifierConfig config)
        : base(nameof(ConvClassifier))
    {
        Config = config;
        var depth = config.Channels.Count;
        var size = config.SampleSize >> (depth - 1);
        if (depth == 0 || size < 1)
            throw new ModelConfigException($"{depth} convolutions with halvings between them do not fit images of {config.SampleSize} pixels. Change channels or sample_size.");
        convs = nn.ModuleList([.. Enumerable.Range(0, depth).Select(i => nn.Conv2d(i == 0 ? config.InChannels : config.Channels[i - 1], config.Channels[i], 3, padding: 1))]);
        dropout = nn.Dropout(config.Dropout);
        head = nn.Linear(config.Channels[^1] * size * size, config.NumClasses);
        Layers = [.. Enumerable.Range(1, depth).Select(i => $"conv{i}")];
        RegisterComponents();
    }

    /// <summary>What the network was built from.</summary>
    public ConvClassifierConfig Config { get; }

    /// <inheritdoc/>
    public override int Classes => Config.NumClasses;

    /// <inheritdoc/>
    public override IReadOnlyList<string> Layers { get; }

    /// <inheritdoc/>
    public override Tensor Logits(Tensor images)
    {
        using var scope = NewDisposeScope();
        var last = Activations(images)[^1];
        return head.call(dropout.call(last.flatten(1))).MoveToOuterDisposeScope();
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
        var activations = new List<Tensor>();
        var x = images;
        foreach (var conv in convs)
        {
            if (activations.Count > 0)
                x = nn.functional.avg_pool2d(x, 2, 2);
            x = nn.functional.relu(conv.call(x));
            activations.Add(x);
        }

        return activations;
    }
}
