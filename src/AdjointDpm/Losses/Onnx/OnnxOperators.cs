using AdjointDpm.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Losses.Onnx;

/// <summary>One operation being computed: its node, and its inputs where there are any.</summary>
internal readonly record struct OnnxCall(OnnxNode Node, Tensor?[] Inputs, long Version, ScalarType Dtype)
{
    public Tensor X => this[0];

    public Tensor this[int i] => i < Inputs.Length && Inputs[i] is { } tensor ? tensor : throw new InvalidDataException($"input {i} is missing");

    public Tensor? Maybe(int i) => i < Inputs.Length ? Inputs[i] : null;

    /// <summary>Integers of an input, or of the attribute that older versions have in its place.</summary>
    public long[]? Longs(int input, string attribute) => Maybe(input) is { } tensor ? OnnxOperators.Host(tensor) : Node.Longs(attribute);
}

/// <summary>ONNX operators as torch operations: those of CLIP, ResNet, MobileNet and their like.</summary>
/// <remarks>Semantics: the operators' text of ONNX, versions 9 to 21. Shapes are computed on the CPU, so that no device is waited for.</remarks>
internal static class OnnxOperators
{
    private static readonly Scalar WholeOne = 1L;
    private static readonly Scalar Sqrt2 = Math.Sqrt(2);

    private static readonly Dictionary<string, Func<OnnxCall, Tensor[]>> Known = new(StringComparer.Ordinal)
    {
        ["Abs"] = One(c => c.X.abs()),
        ["Add"] = One(c => Pair(c, (a, b) => a.add(b, a.is_floating_point() ? Rooted.One : WholeOne))),
        ["AveragePool"] = One(AveragePool),
        ["BatchNormalization"] = One(c => nn.functional.batch_norm(c.X, c[3], c[4], c[1], c[2], training: false, eps: c.Node.Float("epsilon", 1e-5))),
        ["Cast"] = One(Cast),
        ["Clip"] = One(Clip),
        ["Concat"] = One(c => cat([.. c.Inputs.Select(x => On(x!, c.Inputs.First(t => t!.is_floating_point() == c.X.is_floating_point())!))], Axis(c.Node.Long("axis", 0), c.X))),
        ["ConstantOfShape"] = One(ConstantOfShape),
        ["Conv"] = One(Conv),
        ["Cos"] = One(c => c.X.cos()),
        ["Div"] = One(c => Pair(c, (a, b) => a.is_floating_point() ? a.div(b) : a.div(b, RoundingMode.trunc))),
        ["Dropout"] = One(c => c.X.alias()),
        ["Elu"] = One(c => nn.functional.elu(c.X, c.Node.Float("alpha", 1))),
        ["Equal"] = One(c => Pair(c, (a, b) => a.eq(b))),
        ["Erf"] = One(c => c.X.erf()),
        ["Exp"] = One(c => c.X.exp()),
        ["Expand"] = One(c => c.X.mul(ones(Host(c[1]), dtype: c.X.dtype, device: c.X.device))),
        ["Flatten"] = One(Flatten),
        ["Gather"] = One(Gather),
        ["Gelu"] = One(c => c.Node.Text("approximate", "none") == "none" ? c.X.mul(c.X.div(Sqrt2).erf().Plus(Rooted.One)).mul(Rooted.Half) : throw new InvalidDataException("approximate Gelu is not imported")),
        ["Gemm"] = One(Gemm),
        ["GlobalAveragePool"] = One(c => c.X.mean([.. Spatial(c.X)], keepdim: true)),
        ["GlobalMaxPool"] = One(c => c.X.amax([.. Spatial(c.X)], keepdim: true)),
        ["HardSigmoid"] = One(c => Affine(c.X, c.Node.Float("alpha", 0.2), c.Node.Float("beta", 0.5)).clamp(Rooted.Zero, Rooted.One)),
        ["HardSwish"] = One(c => c.X.mul(Affine(c.X, 1 / 6.0, 0.5).clamp(Rooted.Zero, Rooted.One))),
        ["Identity"] = One(c => c.X.alias()),
        ["InstanceNormalization"] = One(InstanceNormalization),
        ["LayerNormalization"] = One(LayerNormalization),
        ["LeakyRelu"] = One(LeakyRelu),
        ["Log"] = One(c => c.X.log()),
        ["LogSoftmax"] = One(c => c.X.log_softmax(SoftmaxAxis(c))),
        ["MatMul"] = One(c => Pair(c, (a, b) => a.matmul(b))),
        ["Max"] = One(c => c.Inputs.Skip(1).Aggregate(c.X, (a, b) => maximum(a, On(b!, a)))),
        ["MaxPool"] = One(MaxPool),
        ["Min"] = One(c => c.Inputs.Skip(1).Aggregate(c.X, (a, b) => minimum(a, On(b!, a)))),
        ["Mul"] = One(c => Pair(c, (a, b) => a.mul(b))),
        ["Neg"] = One(c => c.X.neg()),
        ["Not"] = One(c => c.X.logical_not()),
        ["PRelu"] = One(c => nn.functional.relu(c.X).sub(nn.functional.relu(c.X.neg()).mul(On(c[1], c.X)))),
        ["Pad"] = One(Pad),
        ["Pow"] = One(c => Pair(c, (a, b) => a.pow(b.to(a.dtype)))),
        ["Reciprocal"] = One(c => c.X.reciprocal()),
        ["ReduceL2"] = One(c => Reduce(c, (x, axes, keep) => x.Squared().sum(axes, keep).sqrt())),
        ["ReduceMax"] = One(c => Reduce(c, (x, axes, keep) => x.amax(axes, keep))),
        ["ReduceMean"] = One(c => Reduce(c, (x, axes, keep) => x.mean(axes, keep))),
        ["ReduceMin"] = One(c => Reduce(c, (x, axes, keep) => x.amin(axes, keep))),
        ["ReduceSum"] = One(c => Reduce(c, (x, axes, keep) => x.sum(axes, keep))),
        ["Relu"] = One(c => nn.functional.relu(c.X)),
        ["Reshape"] = One(Reshape),
        ["Resize"] = One(Resize),
        ["Shape"] = One(Shape),
        ["Sigmoid"] = One(c => c.X.sigmoid()),
        ["Sin"] = One(c => c.X.sin()),
        ["Slice"] = One(Slice),
        ["Softmax"] = One(c => c.X.softmax(SoftmaxAxis(c))),
        ["Softplus"] = One(c => nn.functional.softplus(c.X)),
        ["Split"] = Split,
        ["Sqrt"] = One(c => c.X.sqrt()),
        ["Squeeze"] = One(Squeeze),
        ["Sub"] = One(c => Pair(c, (a, b) => a.sub(b))),
        ["Sum"] = One(c => c.Inputs.Skip(1).Aggregate(c.X, (a, b) => a.Plus(On(b!, a)))),
        ["Tanh"] = One(c => c.X.tanh()),
        ["Transpose"] = One(c => c.X.permute(c.Node.Longs("perm") ?? [.. Enumerable.Range(1, (int)c.X.dim()).Select(i => c.X.dim() - i)])),
        ["Unsqueeze"] = One(Unsqueeze),
        ["Where"] = One(c => where(On(c.X, c[1].is_floating_point() ? c[1] : c[2]), On(c[1], c[2]), On(c[2], c[1]))),
    };

    public static IEnumerable<string> Names => Known.Keys;

    public static bool Has(OnnxNode node) => node.Domain is "" or "ai.onnx" && (node.Kind == "Constant" || Known.ContainsKey(node.Kind));

    public static Tensor[] Run(OnnxCall call) => Known[call.Node.Kind](call);

    public static long[] Host(Tensor whole)
    {
        using var scope = NewDisposeScope();
        return whole.to(ScalarType.Int64).cpu().data<long>().ToArray();
    }

    private static Func<OnnxCall, Tensor[]> One(Func<OnnxCall, Tensor> apply) => call => [apply(call)];

    private static Tensor Whole(long[] values) => tensor(values, [values.Length], dtype: ScalarType.Int64);

    /// <summary>A tensor where another one is: numbers that were made with shapes live on the CPU.</summary>
    private static Tensor On(Tensor x, Tensor other) => x.is_floating_point() == other.is_floating_point() && x.is_floating_point() ? x.to(other.dtype, other.device) : x.to(other.device);

    private static Tensor Pair(OnnxCall c, Func<Tensor, Tensor, Tensor> apply)
    {
        var (a, b) = (c[0], c[1]);
        // Of two, the one that is not on the CPU says where.
        return a.device_type == DeviceType.CPU && b.device_type != DeviceType.CPU ? apply(On(a, b), b) : apply(a, On(b, a));
    }

    private static long Axis(long axis, Tensor x) => axis < 0 ? axis + x.dim() : axis;

    private static IEnumerable<long> Spatial(Tensor x) => Enumerable.Range(2, (int)x.dim() - 2).Select(i => (long)i);

    private static Tensor Affine(Tensor x, double factor, double offset)
    {
        using Scalar a = factor, b = offset;
        return x.mul(a).Plus(b);
    }

    private static Tensor LeakyRelu(OnnxCall c)
    {
        using Scalar slope = c.Node.Float("alpha", 0.01);
        return c.X.leaky_relu(slope);
    }

    private static Tensor Cast(OnnxCall c) => c.Node.Long("to", 1) switch
    {
        1 or 10 or 11 or 16 => c.X.to(c.Dtype),
        9 => c.X.to(ScalarType.Bool),
        _ => c.X.to(ScalarType.Int64),
    };

    private static Tensor Clip(OnnxCall c)
    {
        if (c.Version < 11)
        {
            using Scalar least = c.Node.Float("min", double.NegativeInfinity), most = c.Node.Float("max", double.PositiveInfinity);
            return c.X.clamp(least, most);
        }

        var x = c.X;
        x = c.Maybe(1) is { } low ? maximumThrough(x, On(low, x)) : x;
        return c.Maybe(2) is { } high ? maximumThrough(x.neg(), On(high, x).neg()).neg() : x.alias();

        // Unlike torch.maximum, gives the whole gradient where both are equal, as clamp does.
        static Tensor maximumThrough(Tensor x, Tensor low) => where(x.ge(low), x, low.expand(x.shape));
    }

    private static Tensor ConstantOfShape(OnnxCall c)
    {
        var shape = Host(c.X);
        return c.Node.Attributes.GetValueOrDefault("value") is Tensor value
            ? (value.is_floating_point() ? value.to(c.Dtype) : value).reshape([.. shape.Select(_ => 1L)]).expand(shape).contiguous()
            : zeros(shape, dtype: c.Dtype);
    }

    private static (long[] Before, long[] After) Pads(OnnxCall c, long[] kernel, long[] stride, long[] dilation)
    {
        var (n, pads) = (kernel.Length, c.Node.Longs("pads"));
        var auto = c.Node.Text("auto_pad", "NOTSET");
        if (auto is "NOTSET" or "")
            return pads is null ? (new long[n], new long[n]) : (pads[..n], pads[n..]);
        var (before, after) = (new long[n], new long[n]);
        for (var i = 0; i < n && auto != "VALID"; i++)
        {
            var size = c.X.shape[i + 2];
            var total = Math.Max((((size + stride[i] - 1) / stride[i]) - 1) * stride[i] + ((kernel[i] - 1) * dilation[i]) + 1 - size, 0);
            (before[i], after[i]) = auto == "SAME_UPPER" ? (total / 2, total - (total / 2)) : (total - (total / 2), total / 2);
        }

        return (before, after);
    }

    /// <summary>What torch pads itself, and the tensor with what it cannot.</summary>
    private static (Tensor X, long[] Padding) Padded(Tensor x, (long[] Before, long[] After) pads, double with)
    {
        if (pads.Before.SequenceEqual(pads.After))
            return (x, pads.Before);
        long[] order = [.. Enumerable.Range(1, pads.Before.Length).SelectMany(i => new[] { pads.Before[^i], pads.After[^i] })];
        return (nn.functional.pad(x, order, PaddingModes.Constant, with), new long[pads.Before.Length]);
    }

    private static long[] Ones(int count) => [.. Enumerable.Repeat(1L, count)];

    private static void Flat(OnnxCall c)
    {
        if (c.X.dim() != 4)
            throw new InvalidDataException($"it is of {c.X.dim() - 2} dimensions; two are imported");
    }

    private static Tensor Conv(OnnxCall c)
    {
        Flat(c);
        var kernel = c[1].shape[2..];
        var (stride, dilation) = (c.Node.Longs("strides") ?? Ones(2), c.Node.Longs("dilations") ?? Ones(2));
        var (x, padding) = Padded(c.X, Pads(c, kernel, stride, dilation), 0);
        return nn.functional.conv2d(x, c[1], c.Maybe(2), strides: stride, padding: padding, dilation: dilation, groups: c.Node.Long("group", 1));
    }

    private static Tensor MaxPool(OnnxCall c)
    {
        Flat(c);
        var kernel = c.Node.Longs("kernel_shape")!;
        var (stride, dilation) = (c.Node.Longs("strides") ?? Ones(2), c.Node.Longs("dilations") ?? Ones(2));
        var (x, padding) = Padded(c.X, Pads(c, kernel, stride, dilation), double.NegativeInfinity);
        return nn.functional.max_pool2d(x, kernel, stride, padding, dilation, c.Node.Long("ceil_mode", 0) != 0);
    }

    private static Tensor AveragePool(OnnxCall c)
    {
        Flat(c);
        var kernel = c.Node.Longs("kernel_shape")!;
        var stride = c.Node.Longs("strides") ?? Ones(2);
        if (c.Node.Longs("dilations") is { } dilations && dilations.Any(d => d != 1))
            throw new InvalidDataException("a dilated AveragePool is not imported");
        var pads = Pads(c, kernel, stride, Ones(2));
        if (!pads.Before.SequenceEqual(pads.After) && c.Node.Long("count_include_pad", 0) == 0)
            throw new InvalidDataException("uneven padding that does not count is not imported");
        var (x, padding) = Padded(c.X, pads, 0);
        return nn.functional.avg_pool2d(x, kernel, stride, padding, c.Node.Long("ceil_mode", 0) != 0, c.Node.Long("count_include_pad", 0) != 0);
    }

    private static Tensor Flatten(OnnxCall c)
    {
        var axis = (int)Axis(c.Node.Long("axis", 1), c.X);
        return c.X.reshape(c.X.shape[..axis].Aggregate(1L, (a, b) => a * b), -1);
    }

    private static Tensor Gather(OnnxCall c)
    {
        var (axis, index) = (Axis(c.Node.Long("axis", 0), c.X), c[1]);
        var size = c.X.shape[axis];
        // Negative indices count from the end.
        var places = index.device_type == DeviceType.CPU
            ? Whole([.. Host(index).Select(i => i < 0 ? i + size : i)]).to(c.X.device)
            : index.flatten().to(c.X.device);
        return c.X.index_select(axis, places).reshape([.. c.X.shape[..(int)axis], .. index.shape, .. c.X.shape[((int)axis + 1)..]]);
    }

    private static Tensor Gemm(OnnxCall c)
    {
        var a = c.Node.Long("transA", 0) != 0 ? c[0].t() : c[0];
        var b = c.Node.Long("transB", 0) != 0 ? c[1].t() : c[1];
        using Scalar alpha = c.Node.Float("alpha", 1), beta = c.Node.Float("beta", 1);
        var y = a.matmul(b).mul(alpha);
        return c.Maybe(2) is { } offset ? y.add(On(offset, y), beta) : y;
    }

    private static Tensor InstanceNormalization(OnnxCall c)
    {
        using Scalar eps = c.Node.Float("epsilon", 1e-5);
        long[] axes = [.. Spatial(c.X)];
        long[] row = [-1, .. axes.Select(_ => 1L)];
        var centred = c.X.sub(c.X.mean(axes, keepdim: true));
        return centred.div(centred.Squared().mean(axes, keepdim: true).Plus(eps).sqrt()).mul(c[1].reshape(row)).Plus(c[2].reshape(row));
    }

    private static Tensor LayerNormalization(OnnxCall c)
    {
        var axis = (int)Axis(c.Node.Long("axis", -1), c.X);
        return nn.functional.layer_norm(c.X, c.X.shape[axis..], c[1], c.Maybe(2), c.Node.Float("epsilon", 1e-5));
    }

    private static long SoftmaxAxis(OnnxCall c)
    {
        var axis = Axis(c.Node.Long("axis", c.Version < 13 ? 1 : -1), c.X);
        return c.Version >= 13 || axis == c.X.dim() - 1 ? axis
            : throw new InvalidDataException($"before version 13 it flattens all axes from {axis} on; export with opset 13 or newer");
    }

    private static Tensor Pad(OnnxCall c)
    {
        var pads = c.Longs(1, "pads") ?? throw new InvalidDataException("pads are missing");
        var n = (int)c.X.dim();
        if (c.Maybe(3) is { } some)
        {
            // From version 18 on pads may be of some axes only.
            var (axes, given) = (Host(some), pads);
            pads = new long[2 * n];
            for (var i = 0; i < axes.Length; i++)
                (pads[Axis(axes[i], c.X)], pads[n + Axis(axes[i], c.X)]) = (given[i], given[axes.Length + i]);
        }
        var mode = c.Node.Text("mode", "constant") switch
        {
            "constant" => PaddingModes.Constant,
            "reflect" => PaddingModes.Reflect,
            "edge" => PaddingModes.Replicate,
            var other => throw new InvalidDataException($"mode '{other}' is not imported"),
        };
        // From the last axis on; axes that stay need not be named.
        var named = n;
        while (named > 1 && pads[n - named] == 0 && pads[(2 * n) - named] == 0)
            named--;
        long[] order = [.. Enumerable.Range(1, named).SelectMany(i => new[] { pads[n - i], pads[(2 * n) - i] })];
        var value = c.Maybe(2) is { } filling ? filling.to(ScalarType.Float64).Number() : c.Node.Float("value", 0);
        return nn.functional.pad(c.X, order, mode, mode == PaddingModes.Constant ? value : 0);
    }

    private static Tensor Reduce(OnnxCall c, Func<Tensor, long[], bool, Tensor> apply)
    {
        var axes = c.Longs(1, "axes");
        if (axes is null or [])
        {
            if (c.Node.Long("noop_with_empty_axes", 0) != 0)
                return c.X.alias();
            axes = [.. Enumerable.Range(0, (int)c.X.dim()).Select(i => (long)i)];
        }

        return apply(c.X, axes, c.Node.Long("keepdims", 1) != 0);
    }

    private static Tensor Reshape(OnnxCall c)
    {
        var shape = c.Longs(1, "shape") ?? throw new InvalidDataException("the shape is missing");
        return c.X.reshape([.. shape.Select((s, i) => s == 0 && c.Node.Long("allowzero", 0) == 0 ? c.X.shape[i] : s)]);
    }

    private static Tensor Resize(OnnxCall c)
    {
        Flat(c);
        if (c.Node.Text("keep_aspect_ratio_policy", "stretch") is var policy and not "stretch")
            throw new InvalidDataException($"the policy '{policy}' is not imported");
        // From version 18 on sizes and scales may be of some axes only.
        var axes = (c.Node.Longs("axes") ?? [0, 1, 2, 3]).Select(a => (int)Axis(a, c.X)).ToArray();
        var whole = c.X.shape;
        if (c.Maybe(3) is { } given)
        {
            foreach (var (axis, size) in axes.Zip(Host(given)))
                whole[axis] = size;
        }
        else
        {
            using var scope = NewDisposeScope();
            foreach (var (axis, scale) in axes.Zip(c[2].to(ScalarType.Float64).cpu().data<double>().ToArray()))
                whole[axis] = (long)Math.Floor(whole[axis] * scale);
        }

        if (whole[0] != c.X.shape[0] || whole[1] != c.X.shape[1])
            throw new InvalidDataException("only the last two axes of pictures are resized");
        long[] sizes = whole[2..];

        var (mode, place) = (c.Node.Text("mode", "nearest"), c.Node.Text("coordinate_transformation_mode", "half_pixel"));
        var antialias = c.Node.Long("antialias", 0) != 0;
        return (mode, place) switch
        {
            ("nearest", "asymmetric") when c.Node.Text("nearest_mode", "round_prefer_floor") == "floor" => nn.functional.interpolate(c.X, sizes, mode: InterpolationMode.Nearest),
            ("linear", "half_pixel" or "pytorch_half_pixel") => nn.functional.interpolate(c.X, sizes, mode: InterpolationMode.Bilinear, align_corners: false, antialias: antialias),
            ("linear", "align_corners") => nn.functional.interpolate(c.X, sizes, mode: InterpolationMode.Bilinear, align_corners: true),
            ("cubic", "half_pixel" or "pytorch_half_pixel") when Math.Abs(c.Node.Float("cubic_coeff_a", -0.75) - (antialias ? -0.5 : -0.75)) < 1e-6 => nn.functional.interpolate(c.X, sizes, mode: InterpolationMode.Bicubic, align_corners: false, antialias: antialias),
            _ => throw new InvalidDataException($"mode '{mode}' with '{place}' is not imported"),
        };
    }

    private static Tensor Shape(OnnxCall c)
    {
        var (shape, n) = (c.X.shape, c.X.dim());
        return Whole(shape[Place(c.Node.Long("start", 0))..Place(c.Node.Long("end", n))]);

        int Place(long at) => (int)Math.Clamp(at < 0 ? at + n : at, 0, n);
    }

    private static Tensor Slice(OnnxCall c)
    {
        var starts = c.Longs(1, "starts")!;
        var ends = c.Longs(2, "ends")!;
        var axes = c.Longs(3, "axes") ?? [.. Enumerable.Range(0, starts.Length).Select(i => (long)i)];
        var steps = c.Maybe(4) is { } given ? Host(given) : Ones(starts.Length);
        var x = c.X;
        for (var i = 0; i < starts.Length; i++)
        {
            var axis = Axis(axes[i], x);
            var size = x.shape[axis];
            if (steps[i] < 0)
            {
                x = Backwards(x, axis, starts[i], ends[i], steps[i]);
                continue;
            }

            var (from, to) = (Place(starts[i]), Place(ends[i]));
            x = x.slice(axis, from, Math.Max(from, to), steps[i]);

            long Place(long at) => Math.Clamp(at < 0 ? at + size : at, 0, size);
        }

        return x.alias();
    }

    private static Tensor Backwards(Tensor x, long axis, long start, long end, long step)
    {
        var size = x.shape[axis];
        var (at, last) = (Math.Clamp(start < 0 ? start + size : start, 0, size - 1), Math.Clamp(end < 0 ? end + size : end, -1, size - 1));
        var places = new List<long>();
        for (; at > last; at += step)
            places.Add(at);
        return x.index_select(axis, Whole([.. places]).to(x.device));
    }

    private static Tensor[] Split(OnnxCall c)
    {
        var axis = Axis(c.Node.Long("axis", 0), c.X);
        var (size, count) = (c.X.shape[axis], c.Node.Outputs.Count);
        var part = (size + count - 1) / count;
        var parts = c.Longs(1, "split") ?? [.. Enumerable.Range(0, count).Select(i => Math.Min(part, size - (i * part)))];
        var outputs = new Tensor[parts.Length];
        for (var (i, at) = (0, 0L); i < parts.Length; at += parts[i++])
            outputs[i] = c.X.narrow(axis, at, parts[i]);
        return outputs;
    }

    private static Tensor Squeeze(OnnxCall c)
    {
        var axes = (c.Longs(1, "axes") ?? [.. Enumerable.Range(0, (int)c.X.dim()).Select(i => (long)i).Where(i => c.X.shape[i] == 1)]).Select(a => Axis(a, c.X)).ToHashSet();
        return c.X.reshape([.. c.X.shape.Where((_, i) => !axes.Contains(i))]);
    }

    private static Tensor Unsqueeze(OnnxCall c)
    {
        var axes = c.Longs(1, "axes") ?? throw new InvalidDataException("axes are missing");
        var rank = c.X.dim() + axes.Length;
        var shape = new List<long>(c.X.shape);
        foreach (var axis in axes.Select(a => a < 0 ? a + rank : a).Order())
            shape.Insert((int)axis, 1);
        return c.X.reshape([.. shape]);
    }
}
