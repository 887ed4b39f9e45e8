using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using AdjointDpm.Formats;
using AdjointDpm.Models.Classifiers;
using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>
/// Brings a Keras network that a npm package ships for TensorFlow.js, such as the safety filter of nsfwjs: its layers become the description of a
/// <see cref="SequentialClassifier"/>, its weights of 8 bits (value = q · scale + min) a file of float32.
/// </summary>
/// <remarks>A package wraps its files as JavaScript: <c>model.min.js</c> holds an object literal, each <c>group…-shard….min.js</c> one text in base 64.</remarks>
internal static partial class KerasClassifier
{
    /// <param name="source">Folder with model.min.js and its shards.</param>
    /// <param name="output">Folder to write, read by `losses: classifier` and its like.</param>
    /// <param name="inputMin">What the network expects for black.</param>
    /// <param name="inputMax">What it expects for white.</param>
    /// <returns>What was brought.</returns>
    /// <exception cref="InvalidDataException">The files are not what such a package holds, or a layer has no counterpart.</exception>
    public static string Convert(string source, string output, double inputMin, double inputMax)
    {
        var model = ReadLiteral(Path.Combine(source, "model.min.js"));
        var layers = model["modelTopology"]?["model_config"]?["config"]?["layers"]?.AsArray() ?? throw new InvalidDataException($"'{source}' is no Keras model: there is no modelTopology.model_config.config.layers in model.min.js.");
        using var scope = NewDisposeScope();
        var weights = ReadWeights(source, model["weightsManifest"]!.AsArray());
        var (described, renamed, input) = Describe(layers, weights);
        var config = new SequentialClassifierConfig { InChannels = (int)input[3]!, SampleSize = (int)input[1]!, InputMin = inputMin, InputMax = inputMax, Layers = described };
        Directory.CreateDirectory(output);
        SafetensorsWriter.Write(Path.Combine(output, "model.safetensors"), renamed);
        using (var network = new SequentialClassifier(config))
            network.WriteConfig(Path.Combine(output, "config.json"));
        // Reading it back checks every name and shape.
        using var read = ClassifierFolder.Load(output);
        return string.Create(CultureInfo.InvariantCulture, $"{output}: {described.Count} layers, {renamed.Values.Sum(w => w.numel())} numbers, {read.Classes} classes, pictures of {config.SampleSize} × {config.SampleSize} in [{inputMin}, {inputMax}]");
    }

    private static (List<LayerConfig> Layers, Dictionary<string, Tensor> Weights, JsonArray Input) Describe(JsonArray layers, Dictionary<string, Tensor> given)
    {
        var (described, weights) = (new List<LayerConfig>(), new Dictionary<string, Tensor>());
        // A name of each output that an addition may ask for: that of the layer here which computes it.
        var outputs = new Dictionary<string, string>();
        JsonArray? input = null;
        var padded = false;
        var last = "";
        foreach (var layer in layers)
        {
            var (kind, name, config) = ((string)layer!["class_name"]!, (string)layer["name"]!, layer["config"]!);
            string[] from = [.. layer["inbound_nodes"]!.AsArray().SelectMany(node => node!.AsArray()).Select(place => (string)place![0]!)];
            if (kind != "InputLayer" && !from.Contains(last))
                throw new InvalidDataException($"Layer '{name}' does not follow '{last}': branches other than shortcuts are not described by a list of layers.");
            last = name;
            switch (kind)
            {
                case "InputLayer":
                    input = config["batch_input_shape"]!.AsArray();
                    continue;
                case "Dropout":
                    break;
                case "ZeroPadding2D" when config["padding"]!.ToJsonString() == "[[0,1],[0,1]]":
                    padded = true;
                    continue;
                case "Conv2D" or "DepthwiseConv2D":
                    // Zeros below and to the right before a stride of 2 are what SAME adds to an even side.
                    if (padded && ((int)config["strides"]![0]! != 2 || (int)config["kernel_size"]![0]! != 3))
                        throw new InvalidDataException($"Layer '{name}' pads in a way that has no counterpart.");
                    var kernel = given[$"{name}/{(kind == "Conv2D" ? "kernel" : "depthwise_kernel")}"];
                    // [k, k, in, out], and [k, k, in, 1] for depthwise ones, to [out, in / groups, k, k].
                    weights[$"{name}.weight"] = (kind == "Conv2D" ? kernel.permute(3, 2, 0, 1) : kernel.permute(2, 3, 0, 1)).contiguous();
                    described.Add(new LayerConfig
                    {
                        Type = LayerKind.Conv2d,
                        Name = name,
                        OutChannels = (int)weights[$"{name}.weight"].shape[0],
                        KernelSize = (int)config["kernel_size"]![0]!,
                        Stride = (int)config["strides"]![0]!,
                        SamePadding = padded || (string?)config["padding"] == "same",
                        Groups = kind == "Conv2D" ? null : (int)kernel.shape[2],
                        Bias = Bias(name, config),
                    });
                    padded = false;
                    Activation(config);
                    break;
                case "BatchNormalization":
                    foreach (var (theirs, ours) in new[] { ("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean"), ("moving_variance", "running_var") })
                        weights[$"{name}.{ours}"] = given[$"{name}/{theirs}"];
                    described.Add(new LayerConfig { Type = LayerKind.BatchNorm, Name = name, Eps = (double)config["epsilon"]! });
                    break;
                case "ReLU":
                    described.Add(new LayerConfig { Type = config["max_value"] is { } most && (double)most == 6 ? LayerKind.Relu6 : LayerKind.Relu, Name = name });
                    break;
                case "Add":
                    described.Add(new LayerConfig { Type = LayerKind.Add, Name = name, From = outputs[from.First(f => f != layers[layers.IndexOf(layer) - 1]!["name"]!.GetValue<string>())] });
                    break;
                case "AveragePooling2D":
                    described.Add(new LayerConfig { Type = LayerKind.AvgPool2d, KernelSize = (int)config["pool_size"]![0]! });
                    break;
                case "GlobalAveragePooling2D":
                    described.Add(new LayerConfig { Type = LayerKind.GlobalAveragePool });
                    break;
                case "Flatten":
                    // Keras lists pixels before channels: the same order only where one pixel is left.
                    described.Add(new LayerConfig { Type = LayerKind.Flatten });
                    break;
                case "Dense":
                    var matrix = given[$"{name}/kernel"];
                    if (described[^1].Type == LayerKind.Flatten && matrix.shape[0] != described.Last(l => l.OutChannels > 0).OutChannels)
                        throw new InvalidDataException($"Layer '{name}' takes {matrix.shape[0]} numbers of flattened maps, which Keras lists in an order of its own; only maps of one pixel are brought.");
                    weights[$"{name}.weight"] = matrix.t().contiguous();
                    described.Add(new LayerConfig { Type = LayerKind.Linear, Name = name, InFeatures = (int)matrix.shape[0], OutFeatures = (int)matrix.shape[1], Bias = Bias(name, config) });
                    Activation(config);
                    break;
                default:
                    throw new InvalidDataException($"Layer '{name}' is a {kind}, which has no counterpart.");
            }

            outputs[name] = described[^1].Name ?? name;
        }

        return (described, weights, input ?? throw new InvalidDataException("The model has no InputLayer."));

        bool? Bias(string name, JsonNode config)
        {
            if (!(bool)config["use_bias"]!)
                return false;
            weights[$"{name}.bias"] = given[$"{name}/bias"];
            return null;
        }

        void Activation(JsonNode config)
        {
            switch ((string?)config["activation"])
            {
                case null or "linear":
                // The classifier's own: logits are what losses take.
                case "softmax":
                    return;
                case "relu":
                    described.Add(new LayerConfig { Type = LayerKind.Relu });
                    return;
                case var other:
                    throw new InvalidDataException($"The activation '{other}' has no counterpart.");
            }
        }
    }

    private static Dictionary<string, Tensor> ReadWeights(string source, JsonArray manifest)
    {
        var weights = new Dictionary<string, Tensor>();
        foreach (var group in manifest)
        {
            byte[] bytes = [.. group!["paths"]!.AsArray().SelectMany(path => ReadShard(Path.Combine(source, $"{path}.min.js")))];
            var at = 0;
            foreach (var weight in group["weights"]!.AsArray())
            {
                long[] shape = [.. weight!["shape"]!.AsArray().Select(side => (long)side!)];
                if (weight["quantization"] is not { } packed || (string?)packed["dtype"] != "uint8")
                    throw new InvalidDataException($"'{weight["name"]}' is not stored in 8 bits, the one form that is read here.");
                var count = (int)shape.Aggregate(1L, (a, b) => a * b);
                if (at + count > bytes.Length)
                    throw new InvalidDataException($"'{source}' ends within '{weight["name"]}': a shard is missing or cut off.");
                weights[(string)weight["name"]!] = tensor(bytes.AsSpan(at, count).ToArray()).to(ScalarType.Float32).mul((double)packed["scale"]!).add((double)packed["min"]!).reshape(shape);
                at += count;
            }

            if (at != bytes.Length)
                throw new InvalidDataException($"'{source}' holds {bytes.Length} bytes of weights where its manifest lists {at}.");
        }

        return weights;
    }

    private static byte[] ReadShard(string path)
    {
        var text = Exported().Match(File.ReadAllText(path));
        return text.Success ? System.Convert.FromBase64String(text.Groups[1].Value) : throw new InvalidDataException($"'{path}' exports no text.");
    }

    // JavaScript's object literal to JSON: names without quotes, !0 and !1, numbers that begin with a point.
    private static JsonNode ReadLiteral(string path)
    {
        var text = File.ReadAllText(path);
        var begin = text.IndexOf("exports={", StringComparison.Ordinal) + "exports=".Length;
        var (depth, end) = (0, begin);
        foreach (Match token in Token().Matches(text[begin..]))
        {
            depth += token.Value switch { "{" => 1, "}" => -1, _ => 0 };
            end = begin + token.Index + 1;
            if (depth == 0 && token.Value == "}")
                break;
        }

        var json = Token().Replace(text[begin..end], token => token.Value switch
        {
            "!0" => "true",
            "!1" => "false",
            ['"' or '{' or '}', ..] => token.Value,
            "-." => "-0.",
            "." => "0.",
            var name => $"\"{name}\"",
        });
        return JsonNode.Parse(json) ?? throw new InvalidDataException($"'{path}' exports no object.");
    }

    [GeneratedRegex("exports=\"([A-Za-z0-9+/=]+)\"")]
    private static partial Regex Exported();

    [GeneratedRegex("""
        "(?:\\.|[^"\\])*"|!0|!1|[{}]|[A-Za-z_]\w*(?=:)|(?<![\w.])-?\.(?=\d)
        """)]
    private static partial Regex Token();
}
