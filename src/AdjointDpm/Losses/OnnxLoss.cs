using System.Runtime.InteropServices;
using AdjointDpm.Losses.Onnx;
using AdjointDpm.Native;
using static TorchSharp.torch;

namespace AdjointDpm.Losses;

/// <summary>A reward of one's own from an ONNX file, computed by torch operations and so with a gradient: <c>image [B, C, H, W] -> [B]</c>, or one column of [B, K]. The loss is minus the score, or the score itself for a file that gives losses.</summary>
/// <remarks>
/// For networks of images such as CLIP, ResNet and MobileNet; an operator that is not imported is an error that names it, before anything is computed. Batch normalisation takes its stored statistics, dropout does nothing.
/// Export with a batch axis that may vary (<c>dynamic_axes</c>). Weights are held constant.
/// </remarks>
public sealed class OnnxLoss : SampleLoss, IDisposable
{
    private readonly string _path;
    private readonly OnnxFile _file;
    private readonly Dictionary<string, Tensor> _constants;
    private readonly string _input;
    private readonly int? _column;
    private readonly PixelRange _range;
    private readonly bool _maximise;
    private ScalarType _dtype;

    private OnnxLoss(string path, OnnxFile file, string input, int? column, PixelRange range, bool maximise)
    {
        (_path, _file, _input, _column, _range, _maximise) = (path, file, input, column, range, maximise);
        _constants = file.Constants;
        _dtype = _constants.Values.Any(c => c.dtype == ScalarType.Float64) ? ScalarType.Float64 : ScalarType.Float32;
        foreach (var value in _constants.Values.Concat(Attributes()))
            value.DetachFromDisposeScope();
        To(CPU, _dtype);
    }

    /// <summary>Names of the operators that are imported.</summary>
    public static IReadOnlyList<string> Operators { get; } = [.. OnnxOperators.Names.Append("Constant").Order(StringComparer.Ordinal)];

    /// <summary>Loads a file onto the CPU; in float64 if it has numbers in it, else in float32.</summary>
    /// <param name="path">Path of the file; numbers that it keeps in a second file beside it are read, too.</param>
    /// <param name="column">Which column of an output [B, K] is the score. Default: null, for an output [B] or [B, 1].</param>
    /// <param name="range">Values of the pictures that it takes. Default: [0, 1].</param>
    /// <param name="maximise">Whether its scores are better the higher they are. Default: true.</param>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="InvalidDataException">It is no ONNX file, takes more than a picture, or uses operators that are not imported; the message names them.</exception>
    public static OnnxLoss Load(string path, int? column = null, PixelRange range = PixelRange.Unit, bool maximise = true)
    {
        if (!File.Exists(path))
            throw new FileNotFoundException($"{path}: there is no such file.", path);
        NativeTorch.EnsureLoaded();
        using var scope = NewDisposeScope();
        var file = OnnxFile.Read(path);
        string[] missing = [.. file.Nodes.Where(n => !OnnxOperators.Has(n)).Select(n => n.Domain.Length > 0 ? $"{n.Domain}.{n.Kind}" : n.Kind).Distinct().Order(StringComparer.Ordinal)];
        if (missing.Length > 0)
            throw new InvalidDataException($"{path}: the graph uses operators that are not imported: {string.Join(", ", missing)}. Bring the reward as a TorchScript file or as a sidecar instead.");
        foreach (var node in file.Nodes.Where(n => n.Kind == "Constant"))
            file.Constants[node.Outputs[0]] = Constant(path, node);
        string[] inputs = [.. file.Inputs.Where(i => !file.Constants.ContainsKey(i))];
        return inputs is [var input]
            ? new(path, file, input, column, range, maximise)
            : throw new InvalidDataException($"{path}: the graph takes {inputs.Length} inputs ({string.Join(", ", inputs)}); a reward takes one, the picture. Put the others into the model before it is exported.");
    }

    /// <summary>Moves the reward's numbers to a device, and those that are not whole to a dtype.</summary>
    /// <param name="device">Where the samples are.</param>
    /// <param name="dtype">Dtype to compute in. Default: as it is.</param>
    /// <returns>The loss itself.</returns>
    public OnnxLoss To(Device device, ScalarType? dtype = null)
    {
        _dtype = dtype ?? _dtype;
        foreach (var (name, value) in _constants.ToArray())
        {
            // Whole numbers are shapes and indices, which the host reads.
            if (!value.is_floating_point())
                continue;
            _constants[name] = value.to(_dtype, device).DetachFromDisposeScope();
            if (!ReferenceEquals(_constants[name], value))
                value.Dispose();
        }

        return this;
    }

    /// <inheritdoc/>
    /// <exception cref="InvalidDataException">An operation cannot be computed for these pictures, or the output is not one score for each.</exception>
    /// <exception cref="NoGradientException">The scores do not depend on the picture in a differentiable way.</exception>
    public override Tensor PerSample(Tensor samples)
    {
        using var scope = NewDisposeScope();
        var output = Run(RewardInput.Of(samples, _range).to(_dtype));
        if (_column is { } column)
        {
            if (output.dim() != 2 || column < 0 || column >= output.shape[1])
                throw new InvalidDataException($"{_path} gives [{string.Join(", ", output.shape)}], which has no column {column}.");
            output = output.select(1, column);
        }
        else if (output.dim() == 2 && output.shape[1] == 1)
        {
            output = output.select(1, 0);
        }

        var scores = RewardInput.Scores(_path, output, samples);
        if (is_grad_enabled() && samples.requires_grad && !scores.requires_grad)
            throw new NoGradientException($"{_path} gives scores without a gradient with respect to the picture.");
        return (_maximise ? scores.neg() : scores.alias()).MoveToOuterDisposeScope();
    }

    /// <summary>Frees the reward's numbers.</summary>
    public void Dispose()
    {
        foreach (var value in _constants.Values.Concat(Attributes()))
            value.Dispose();
    }

    private static Tensor Constant(string path, OnnxNode node) => node.Attributes switch
    {
        { Count: 1 } a when a.TryGetValue("value", out var v) && v is Tensor value => value,
        { Count: 1 } a when a.TryGetValue("value_float", out var v) && v is float value => tensor(value),
        { Count: 1 } a when a.TryGetValue("value_int", out var v) && v is long value => tensor(value),
        { Count: 1 } a when a.TryGetValue("value_ints", out var v) && v is long[] values => tensor(values),
        { Count: 1 } a when a.TryGetValue("value_floats", out var v) && v is float[] values => tensor(values),
        _ => throw new InvalidDataException($"{path}: constant '{node.Outputs[0]}' is of a kind that is not imported."),
    };

    // Of other nodes than constants, whose tensors are among the constants.
    private IEnumerable<Tensor> Attributes() => _file.Nodes.Where(n => n.Kind != "Constant").SelectMany(n => n.Attributes.Values.OfType<Tensor>());

    private Tensor Run(Tensor image)
    {
        var values = new Dictionary<string, Tensor>(_constants, StringComparer.Ordinal) { [_input] = image };
        foreach (var node in _file.Nodes)
        {
            if (node.Kind == "Constant")
                continue;
            try
            {
                Tensor?[] inputs = [.. node.Inputs.Select(name => name.Length == 0 ? null : values.GetValueOrDefault(name) ?? throw new InvalidDataException($"its input '{name}' is computed nowhere"))];
                var outputs = OnnxOperators.Run(new(node, inputs, _file.Version, _dtype));
                for (var i = 0; i < Math.Min(outputs.Length, node.Outputs.Count); i++)
                    values[node.Outputs[i]] = outputs[i];
            }
            catch (Exception error) when (error is InvalidDataException or ExternalException or ArgumentException or IndexOutOfRangeException or NullReferenceException)
            {
                throw new InvalidDataException($"{_path}: {node.Kind}{(node.Name.Length > 0 ? $" '{node.Name}'" : "")} cannot be computed for pictures [{string.Join(", ", image.shape)}]: {error.Message.Split('\n')[0]}", error);
            }
        }

        return values.GetValueOrDefault(_file.Outputs[0]) ?? throw new InvalidDataException($"{_path}: the output '{_file.Outputs[0]}' is computed nowhere.");
    }
}
