using System.Globalization;
using System.Text;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Train;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>A packaged Keras network in small, with the layers and the packing of nsfwjs' MobileNetV2: brought, and compared with the same operations written out.</summary>
public sealed class KerasClassifierTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly List<(string Name, long[] Shape, byte[] Values, double Min, double Scale)> _weights = [];
    private readonly Random _random = new(7);

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Convert_AMiniature_ComputesWhatItsLayersSay()
    {
        Weights();
        Write(Layers, shards: 3);
        var said = KerasClassifier.Convert(_folder["package"], _folder["filter"], 0, 1);
        Assert.Contains(string.Create(CultureInfo.InvariantCulture, $"{_weights.Sum(weight => weight.Values.Length)} numbers, 3 classes, pictures of 8 × 8 in [0, 1]"), said, StringComparison.Ordinal);

        using var scope = NewDisposeScope();
        using var classifier = ClassifierFolder.Load(_folder["filter"]);
        manual_seed(3);
        var pixels = rand(2, 3, 8, 8);
        // In [-1, 1], as models draw.
        Reference.Close(Expected(pixels), classifier.Logits((pixels * 2) - 1), "logits", 1e-5);
        Assert.Contains("expand_relu", classifier.Layers);
    }

    [Theory]
    [InlineData("class_name:\"GlobalAveragePooling2D\"", "class_name:\"UpSampling2D\"", "Layer 'pool' is a UpSampling2D, which has no counterpart.")]
    [InlineData("padding:[[0,1],[0,1]]", "padding:[[1,1],[1,1]]", "Layer 'pad' is a ZeroPadding2D, which has no counterpart.")]
    [InlineData("use_bias:!0,activation:\"softmax\"", "use_bias:!0,activation:\"selu\"", "The activation 'selu' has no counterpart.")]
    [InlineData("inbound_nodes:[[[\"stem\",0,0,{}]]]", "inbound_nodes:[[[\"pad\",0,0,{}]]]", "does not follow 'stem'")]
    public void Convert_WhatHasNoCounterpart_IsNamed(string text, string instead, string message)
    {
        Weights();
        Assert.Contains(text, Layers, StringComparison.Ordinal);
        Write(Layers.Replace(text, instead, StringComparison.Ordinal), shards: 1);
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => KerasClassifier.Convert(_folder["package"], _folder["filter"], 0, 1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Convert_AMissingShard_IsSaid()
    {
        Weights();
        Write(Layers, shards: 2, written: 1);
        Assert.Throws<FileNotFoundException>(() => KerasClassifier.Convert(_folder["package"], _folder["filter"], 0, 1));
    }

    private const string Layers = """
        {name:"in",class_name:"InputLayer",config:{batch_input_shape:[null,8,8,3],dtype:"float32"},inbound_nodes:[]},
        {name:"pad",class_name:"ZeroPadding2D",config:{padding:[[0,1],[0,1]]},inbound_nodes:[[["in",0,0,{}]]]},
        {name:"stem",class_name:"Conv2D",config:{kernel_size:[3,3],strides:[2,2],padding:"valid",use_bias:!1,activation:"linear"},inbound_nodes:[[["pad",0,0,{}]]]},
        {name:"stem_bn",class_name:"BatchNormalization",config:{epsilon:.001},inbound_nodes:[[["stem",0,0,{}]]]},
        {name:"stem_relu",class_name:"ReLU",config:{max_value:6},inbound_nodes:[[["stem_bn",0,0,{}]]]},
        {name:"expand",class_name:"DepthwiseConv2D",config:{kernel_size:[3,3],strides:[1,1],padding:"same",use_bias:!0,activation:"linear"},inbound_nodes:[[["stem_relu",0,0,{}]]]},
        {name:"expand_relu",class_name:"ReLU",config:{max_value:null},inbound_nodes:[[["expand",0,0,{}]]]},
        {name:"project",class_name:"Conv2D",config:{kernel_size:[1,1],strides:[1,1],padding:"same",use_bias:!1,activation:"linear"},inbound_nodes:[[["expand_relu",0,0,{}]]]},
        {name:"sum",class_name:"Add",config:{},inbound_nodes:[[["stem_relu",0,0,{}],["project",0,0,{}]]]},
        {name:"pool",class_name:"GlobalAveragePooling2D",config:{},inbound_nodes:[[["sum",0,0,{}]]]},
        {name:"drop",class_name:"Dropout",config:{rate:.2},inbound_nodes:[[["pool",0,0,{}]]]},
        {name:"dense",class_name:"Dense",config:{use_bias:!0,activation:"softmax"},inbound_nodes:[[["drop",0,0,{}]]]}
        """;

    private void Weights()
    {
        Weight("stem/kernel", -1, 3, 3, 3, 4);
        Weight("stem_bn/gamma", 0.5, 4);
        Weight("stem_bn/beta", -0.5, 4);
        Weight("stem_bn/moving_mean", -0.2, 4);
        Weight("stem_bn/moving_variance", 0.4, 4);
        Weight("expand/depthwise_kernel", -1, 3, 3, 4, 1);
        Weight("expand/bias", -0.3, 4);
        Weight("project/kernel", -1, 1, 1, 4, 4);
        Weight("dense/kernel", -1, 4, 3);
        Weight("dense/bias", -0.1, 3);
    }

    private void Weight(string name, double min, params long[] shape)
    {
        var values = new byte[shape.Aggregate(1L, (a, b) => a * b)];
        _random.NextBytes(values);
        _weights.Add((name, shape, values, min, 0.0078125));
    }

    /// <summary>The layers in Keras' order of axes, by torch.</summary>
    private Tensor Expected(Tensor pixels)
    {
        Tensor Of(string name)
        {
            var (_, shape, values, min, scale) = _weights.Single(weight => weight.Name == name);
            return tensor(values).to(ScalarType.Float32).mul(scale).add(min).reshape(shape);
        }

        var x = nn.functional.conv2d(nn.functional.pad(pixels, [0, 1, 0, 1]), Of("stem/kernel").permute(3, 2, 0, 1), strides: [2, 2]);
        x = nn.functional.batch_norm(x, Of("stem_bn/moving_mean"), Of("stem_bn/moving_variance"), Of("stem_bn/gamma"), Of("stem_bn/beta"), training: false, eps: 0.001);
        x = x.clamp(0, 6);
        var expanded = nn.functional.relu(nn.functional.conv2d(x, Of("expand/depthwise_kernel").permute(2, 3, 0, 1), Of("expand/bias"), padding: [1, 1], groups: 4));
        x += nn.functional.conv2d(expanded, Of("project/kernel").permute(3, 2, 0, 1));
        return x.mean([2, 3]).matmul(Of("dense/kernel")) + Of("dense/bias");
    }

    /// <summary>As the package has them: an object literal of JavaScript, and bytes in base 64, each in a wrapper.</summary>
    private void Write(string layers, int shards, int? written = null)
    {
        Directory.CreateDirectory(_folder["package"]);
        var bytes = _weights.SelectMany(weight => weight.Values).ToArray();
        var names = Enumerable.Range(1, shards).Select(i => string.Create(CultureInfo.InvariantCulture, $"group1-shard{i}of{shards}")).ToArray();
        var manifest = string.Join(',', _weights.Select(weight => string.Create(CultureInfo.InvariantCulture,
            $"{{name:\"{weight.Name}\",shape:[{string.Join(',', weight.Shape)}],dtype:\"float32\",quantization:{{min:{Short(weight.Min)},scale:{Short(weight.Scale)},dtype:\"uint8\"}}}}")));
        var model = $"{{format:\"layers-model\",modelTopology:{{model_config:{{class_name:\"Model\",config:{{name:\"m\",layers:[{layers}]}}}}}},weightsManifest:[{{paths:[{string.Join(',', names.Select(name => $"\"{name}\""))}],weights:[{manifest}]}}]}}";
        File.WriteAllText(Path.Combine(_folder["package"], "model.min.js"), $"!function(e,t){{\"object\"==typeof exports?module.exports=t():e.m=t()}}(this,function(){{var a={{}};a.exports={model};return a.exports}});");
        var each = (bytes.Length + shards - 1) / shards;
        for (var i = 0; i < (written ?? shards); i++)
        {
            var part = System.Convert.ToBase64String(bytes.AsSpan(i * each, Math.Min(each, bytes.Length - (i * each))));
            File.WriteAllText(Path.Combine(_folder["package"], names[i] + ".min.js"), $"!function(){{var a={{}};a.exports=\"{part}\"}}();", Encoding.ASCII);
        }
    }

    // Minified numbers have no zero before the point.
    private static string Short(double value) => value.ToString("R", CultureInfo.InvariantCulture).Replace("0.", ".", StringComparison.Ordinal);
}
