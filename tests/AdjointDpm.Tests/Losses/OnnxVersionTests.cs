using System.Text;
using AdjointDpm.Gradients;
using AdjointDpm.Losses;
using AdjointDpm.Tests.Formats;
using AdjointDpm.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Losses;

/// <summary>Operators in the forms that they have from version 18 on: axes as inputs, parts by their number, pads and sizes of some axes. Graphs of a few nodes, written here, against torch.</summary>
public sealed class OnnxVersionTests
{
    private static readonly string[] Names =
        ["reduce-mean", "reduce-max", "reduce-l2", "reduce-noop", "split", "pad", "resize", "resize-antialias", "gelu", "hard-swish", "layer-norm", "clip", "cast", "unsqueeze"];

    // Gelu came with version 20.
    public static TheoryData<string, long> Cases => [.. Names.SelectMany(name => new[] { 18L, 20L, 21L }.Where(version => version >= 20 || name != "gelu").Select(version => new TheoryDataRow<string, long>(name, version)))];

    [Theory]
    [MemberData(nameof(Cases))]
    public void PerSample_OfNewerVersions_IsTorchs(string name, long version)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        manual_seed(4);
        var x = rand(2, 3, 6, 8, dtype: float64) * 2 - 1;
        using var graph = new Graph(version);
        var expected = Build(name, graph);
        File.WriteAllBytes(folder["loss.onnx"], graph.Bytes());
        using var loss = OnnxLoss.Load(folder["loss.onnx"], maximise: false, range: PixelRange.Symmetric).To(CPU, float64);
        var (value, gradient) = Vjp.Of(loss.PerSample, x, null);
        var (wanted, slope) = Vjp.Of(expected, x, null);
        Reference.Close(wanted, value, "score", 1e-6);
        Reference.Close(slope, gradient, "gradient", 1e-6);
    }

    [Theory]
    [InlineData("AveragePool", "a dilated AveragePool is not imported")]
    [InlineData("Resize", "the policy 'not_larger' is not imported")]
    public void PerSample_FormsThatAreNotImported_AreNamed(string kind, string message)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        var graph = new Graph(19);
        if (kind == "AveragePool")
            graph.Add(kind, ["x"], ["kernel_shape", "dilations"], [new long[] { 2, 2 }, new long[] { 2, 2 }]);
        else
            graph.Add(kind, ["x", "", "", graph.Whole(2, 3, 4, 4)], ["mode", "keep_aspect_ratio_policy"], ["linear", "not_larger"]);
        graph.Score();
        File.WriteAllBytes(folder["loss.onnx"], graph.Bytes());
        using var loss = OnnxLoss.Load(folder["loss.onnx"]);
        Assert.Contains(message, Assert.Throws<InvalidDataException>(() => loss.PerSample(zeros(2, 3, 6, 8))).Message, StringComparison.Ordinal);
    }

    private static Func<Tensor, Tensor> Build(string name, Graph graph)
    {
        switch (name)
        {
            case "reduce-mean":
                graph.Add("ReduceMean", ["x", graph.Whole(-1)], ["keepdims"], [0L]);
                return Scored(x => x.mean([3]), graph);
            case "reduce-max":
                graph.Add("ReduceMax", ["x", graph.Whole(2, 3)], ["keepdims"], [1L]);
                return Scored(x => x.amax([2, 3], true), graph);
            case "reduce-l2":
                graph.Add("ReduceL2", ["x", graph.Whole(1)], ["keepdims"], [0L]);
                return Scored(x => x.pow(2).sum([1]).sqrt(), graph);
            case "reduce-noop":
                graph.Add("ReduceSum", ["x"], ["noop_with_empty_axes"], [1L]);
                return Scored(x => x, graph);
            case "split":
                graph.Add("Split", ["x"], ["axis", "num_outputs"], [3L, 3L], outputs: 3);
                // Of eight columns three parts are 3, 3 and 2: the last is taken.
                return Scored(x => x.narrow(3, 6, 2), graph);
            case "pad":
                graph.Add("Pad", ["x", graph.Whole(1, 2, 0, 3), graph.Number(0.5), graph.Whole(-1, 2)], ["mode"], ["constant"]);
                return Scored(x => nn.functional.pad(x, [1, 0, 2, 3], PaddingModes.Constant, 0.5), graph);
            case "resize":
                graph.Add("Resize", ["x", "", "", graph.Whole(9, 5)], ["mode", "axes"], ["linear", new long[] { 2, 3 }]);
                return Scored(x => nn.functional.interpolate(x, [9, 5], mode: InterpolationMode.Bilinear, align_corners: false), graph);
            case "resize-antialias":
                graph.Add("Resize", ["x", "", "", graph.Whole(2, 3, 3, 4)], ["mode", "antialias"], ["linear", 1L]);
                return Scored(x => nn.functional.interpolate(x, [3, 4], mode: InterpolationMode.Bilinear, align_corners: false, antialias: true), graph);
            case "gelu":
                graph.Add("Gelu", ["x"], [], []);
                return Scored(x => nn.functional.gelu(x), graph);
            case "hard-swish":
                graph.Add("HardSwish", ["x"], [], []);
                return Scored(x => x * ((x / 6) + 0.5).clamp(0, 1), graph);
            case "layer-norm":
                graph.Add("LayerNormalization", ["x", graph.Numbers(2, 1, 1, 1, 1, 1, 1, 0.5)], ["axis"], [-1L]);
                return Scored(x => nn.functional.layer_norm(x, [8]) * tensor(new[] { 2, 1, 1, 1, 1, 1, 1, 0.5 }), graph);
            case "clip":
                graph.Add("Clip", ["x", graph.Number(-0.25), graph.Number(0.5)], [], []);
                return Scored(x => x.clamp(-0.25, 0.5), graph);
            case "cast":
                graph.Add("Cast", ["x"], ["to", "saturate"], [11L, 1L]);
                return Scored(x => x, graph);
            default:
                graph.Add("Unsqueeze", ["x", graph.Whole(1)], [], []);
                return Scored(x => x.unsqueeze(1), graph);
        }
    }

    /// <summary>The sum of the squares of each sample, at the end of both.</summary>
    private static Func<Tensor, Tensor> Scored(Func<Tensor, Tensor> of, Graph graph)
    {
        graph.Score();
        return x => of(x).flatten(1).pow(2).sum([1]);
    }

    /// <summary>As much of ONNX's protocol buffers as a graph of a few nodes takes.</summary>
    private sealed class Graph(long version) : IDisposable
    {
        private readonly MemoryStream _nodes = new(), _constants = new();
        private int _count;
        private string _last = "x";

        public string Whole(params long[] values) => Constant(7, [.. values.SelectMany(BitConverter.GetBytes)], values.Length);

        public string Numbers(params double[] values) => Constant(11, [.. values.SelectMany(BitConverter.GetBytes)], values.Length);

        public string Number(double value) => Constant(11, BitConverter.GetBytes(value), null);

        public void Add(string kind, string[] inputs, string[] names, object[] values, int outputs = 1)
        {
            using var node = new MemoryStream();
            foreach (var input in inputs)
                Text(node, 1, input);
            for (var i = 0; i < outputs; i++)
                Text(node, 2, _last = $"{kind}{_count}_{i}");
            _count++;
            Text(node, 4, kind);
            foreach (var (name, value) in names.Zip(values))
                Block(node, 5, Attribute(name, value));
            Block(_nodes, 1, node.ToArray());
        }

        public void Dispose()
        {
            _nodes.Dispose();
            _constants.Dispose();
        }

        public void Score()
        {
            Add("Mul", [_last, _last], [], []);
            Add("Flatten", [_last], ["axis"], [1L]);
            Add("ReduceSum", [_last, Whole(1)], ["keepdims"], [0L]);
        }

        public byte[] Bytes()
        {
            using MemoryStream graph = new(), model = new(), set = new();
            graph.Write(_nodes.ToArray());
            graph.Write(_constants.ToArray());
            Block(graph, 11, Named("x"));
            Block(graph, 12, Named(_last));
            Number(model, 1, 10);
            Block(model, 7, graph.ToArray());
            Number(set, 2, version);
            Block(model, 8, set.ToArray());
            return model.ToArray();
        }

        private string Constant(long type, byte[] raw, long? count)
        {
            using var tensor = new MemoryStream();
            if (count is { } n)
                Number(tensor, 1, n);
            Number(tensor, 2, type);
            var name = $"c{_count++}";
            Text(tensor, 8, name);
            Block(tensor, 9, raw);
            Block(_constants, 5, tensor.ToArray());
            return name;
        }

        private static byte[] Named(string name)
        {
            using var value = new MemoryStream();
            Text(value, 1, name);
            return value.ToArray();
        }

        private static byte[] Attribute(string name, object value)
        {
            using var attribute = new MemoryStream();
            Text(attribute, 1, name);
            switch (value)
            {
                case long whole:
                    Number(attribute, 3, whole);
                    Number(attribute, 20, 2);
                    break;
                case string text:
                    Text(attribute, 4, text);
                    Number(attribute, 20, 3);
                    break;
                case long[] list:
                    foreach (var item in list)
                        Number(attribute, 8, item);
                    Number(attribute, 20, 7);
                    break;
            }

            return attribute.ToArray();
        }

        private static void Number(Stream to, int field, long value)
        {
            Varint(to, (ulong)(field << 3));
            Varint(to, (ulong)value);
        }

        private static void Text(Stream to, int field, string value) => Block(to, field, Encoding.UTF8.GetBytes(value));

        private static void Block(Stream to, int field, byte[] bytes)
        {
            Varint(to, (ulong)((field << 3) | 2));
            Varint(to, (ulong)bytes.Length);
            to.Write(bytes);
        }

        private static void Varint(Stream to, ulong value)
        {
            for (; value >= 0x80; value >>= 7)
                to.WriteByte((byte)(value | 0x80));
            to.WriteByte((byte)value);
        }
    }
}
