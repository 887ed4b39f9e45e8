using System.Text.Json.Serialization;

namespace AdjointDpm.Models.Classifiers;

/// <summary>Kinds of layer of a <see cref="SequentialClassifier"/>.</summary>
[JsonConverter(typeof(NamedEnumConverter<LayerKind>))]
public enum LayerKind
{
    /// <summary>Convolution: <c>out_channels</c>, <c>kernel_size</c>, <c>stride</c>, <c>groups</c>, <c>bias</c>, padding. Weights <c>{name}.weight</c> of shape [out, in / groups, k, k], <c>{name}.bias</c>.</summary>
    [JsonStringEnumMemberName("conv2d")]
    Conv2d,

    /// <summary>Batch normalisation by stored statistics: <c>eps</c>. Weights <c>{name}.weight</c>, <c>.bias</c>, <c>.running_mean</c>, <c>.running_var</c>.</summary>
    [JsonStringEnumMemberName("batch_norm")]
    BatchNorm,

    /// <summary>Fully connected: <c>out_features</c>, <c>bias</c>; <c>in_features</c> after a <see cref="Flatten"/>.</summary>
    [JsonStringEnumMemberName("linear")]
    Linear,

    /// <summary>max(0, x).</summary>
    [JsonStringEnumMemberName("relu")]
    Relu,

    /// <summary>min(max(0, x), 6).</summary>
    [JsonStringEnumMemberName("relu6")]
    Relu6,

    /// <summary>max(x, slope · x): <c>slope</c>.</summary>
    [JsonStringEnumMemberName("leaky_relu")]
    LeakyRelu,

    /// <summary>x · sigmoid(x).</summary>
    [JsonStringEnumMemberName("silu")]
    Silu,

    /// <summary>tanh(x).</summary>
    [JsonStringEnumMemberName("tanh")]
    Tanh,

    /// <summary>Maximum pooling: <c>kernel_size</c>, <c>stride</c> (default: the kernel's), padding.</summary>
    [JsonStringEnumMemberName("max_pool2d")]
    MaxPool2d,

    /// <summary>Average pooling: <c>kernel_size</c>, <c>stride</c> (default: the kernel's).</summary>
    [JsonStringEnumMemberName("avg_pool2d")]
    AvgPool2d,

    /// <summary>Mean over height and width: [B, C, h, w] becomes [B, C].</summary>
    [JsonStringEnumMemberName("global_average_pool")]
    GlobalAveragePool,

    /// <summary>[B, C, h, w] becomes [B, C · h · w], channels outermost.</summary>
    [JsonStringEnumMemberName("flatten")]
    Flatten,

    /// <summary>Adds the output of an earlier layer, named by <c>from</c>: the shortcut of a residual network.</summary>
    [JsonStringEnumMemberName("add")]
    Add,
}

/// <summary>One layer of a <see cref="SequentialClassifier"/>; which fields count depends on its kind.</summary>
public sealed record LayerConfig
{
    /// <summary>What the layer computes.</summary>
    public required LayerKind Type { get; init; }

    /// <summary>Name of the layer, of its weights in the file, and of its output as a feature layer. Required for layers with weights; without dots.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Name { get; init; }

    /// <summary>Output channels of a convolution.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public int OutChannels { get; init; }

    /// <summary>Side of a convolution's or pooling's window in pixels.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public int KernelSize { get; init; }

    /// <summary>Step of a window in pixels. Default: 1 for a convolution, the window's side for a pooling.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? Stride { get; init; }

    /// <summary>Pixels of zeros on every side (for maximum pooling: of nothing). Default: 0.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public int Padding { get; init; }

    /// <summary>Whether to pad as TensorFlow's <c>SAME</c> does: the output has ⌈size / stride⌉ pixels, and what is odd of the padding goes below and to the right. Default: false.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public bool SamePadding { get; init; }

    /// <summary>Groups of a convolution; as many as channels for a depthwise one. Default: 1.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? Groups { get; init; }

    /// <summary>Whether a convolution or linear layer has a bias. Default: true.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public bool? Bias { get; init; }

    /// <summary>Added to the variance of a batch normalisation. Default: 1e-5.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Eps { get; init; }

    /// <summary>Slope of a leaky ReLU below zero. Default: 0.01.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public double? Slope { get; init; }

    /// <summary>Inputs of a linear layer, where they do not follow from the layers before it.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public int InFeatures { get; init; }

    /// <summary>Outputs of a linear layer.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public int OutFeatures { get; init; }

    /// <summary>Name of the earlier layer whose output an <see cref="LayerKind.Add"/> adds.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? From { get; init; }
}

/// <summary>Configuration of a <see cref="SequentialClassifier"/>.</summary>
public sealed record SequentialClassifierConfig
{
    /// <summary>Class the folder is for.</summary>
    [JsonPropertyName("_class_name"), JsonPropertyOrder(-1)]
    public string ClassName { get; init; } = nameof(SequentialClassifier);

    /// <summary>Channels that the network takes; images of one channel are repeated to fill them. Default: 3.</summary>
    public int InChannels { get; init; } = 3;

    /// <summary>Height and width that images are resized to (bilinear, with antialiasing where they shrink). Default: null, as they are.</summary>
    public int? SampleSize { get; init; }

    /// <summary>Value that the network was trained to see for black (−1 of an image). Default: 0.</summary>
    public double InputMin { get; init; }

    /// <summary>Value that the network was trained to see for white (1 of an image). Default: 1.</summary>
    public double InputMax { get; init; } = 1;

    /// <summary>Means by channel, taken off after the scaling to [input_min, input_max]. Default: none.</summary>
    public IReadOnlyList<double>? Mean { get; init; }

    /// <summary>Standard deviations by channel that it is divided by. Default: none.</summary>
    public IReadOnlyList<double>? Std { get; init; }

    /// <summary>The layers, from the image to the logits.</summary>
    public required IReadOnlyList<LayerConfig> Layers { get; init; }
}
