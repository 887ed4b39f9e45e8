using System.Globalization;
using static TorchSharp.torch;

namespace AdjointDpm.Losses.Onnx;

/// <summary>One operation of a graph.</summary>
internal sealed class OnnxNode
{
    public string Kind { get; set; } = "";

    public string Name { get; set; } = "";

    public string Domain { get; set; } = "";

    public List<string> Inputs { get; } = [];

    public List<string> Outputs { get; } = [];

    public Dictionary<string, object> Attributes { get; } = new(StringComparer.Ordinal);

    public long Long(string name, long otherwise) => Attributes.TryGetValue(name, out var value) && value is long number ? number : otherwise;

    public double Float(string name, double otherwise) => Attributes.TryGetValue(name, out var value) && value is float number ? number : otherwise;

    public string Text(string name, string otherwise) => Attributes.TryGetValue(name, out var value) && value is string text ? text : otherwise;

    public long[]? Longs(string name) => Attributes.TryGetValue(name, out var value) ? value as long[] : null;
}

/// <summary>An ONNX file: its graph and its numbers.</summary>
/// <remarks>onnx.proto of ONNX 1.x. Fields that do not change what is computed are passed over.</remarks>
internal sealed class OnnxFile
{
    private readonly string _path;

    private OnnxFile(string path) => _path = path;

    public List<OnnxNode> Nodes { get; } = [];

    /// <summary>Numbers by name, on the CPU, in the current dispose scope of the reading.</summary>
    public Dictionary<string, Tensor> Constants { get; } = new(StringComparer.Ordinal);

    public List<string> Inputs { get; } = [];

    public List<string> Outputs { get; } = [];

    /// <summary>Version of the standard operators.</summary>
    public long Version { get; private set; }

    /// <summary>Reads a file.</summary>
    /// <exception cref="InvalidDataException">It is no ONNX file.</exception>
    public static OnnxFile Read(string path)
    {
        var file = new OnnxFile(path);
        try
        {
            file.Model(File.ReadAllBytes(path));
        }
        catch (InvalidDataException error)
        {
            throw new InvalidDataException($"{path}: this is no ONNX file, or a damaged one: {error.Message}.", error);
        }

        if (file.Nodes.Count == 0 || file.Outputs.Count == 0)
            throw new InvalidDataException($"{path}: this is no ONNX file: it has no graph with operations and an output.");
        return file;
    }

    private void Model(ReadOnlySpan<byte> bytes)
    {
        var reader = new ProtoReader(bytes);
        while (reader.Next())
        {
            if (reader.Field == 7)
                Graph(reader.Bytes);
            else if (reader.Field == 8)
                Version = Math.Max(Version, OperatorSet(reader.Bytes));
        }
    }

    private static long OperatorSet(ReadOnlySpan<byte> bytes)
    {
        var (domain, version) = ("", 0L);
        var reader = new ProtoReader(bytes);
        while (reader.Next())
        {
            if (reader.Field == 1)
                domain = reader.Text;
            else if (reader.Field == 2)
                version = reader.Long;
        }

        return domain is "" or "ai.onnx" ? version : 0;
    }

    private void Graph(ReadOnlySpan<byte> bytes)
    {
        var reader = new ProtoReader(bytes);
        while (reader.Next())
        {
            switch (reader.Field)
            {
                case 1: Nodes.Add(Node(reader.Bytes)); break;
                case 5:
                    var (name, value) = Number(reader.Bytes);
                    Constants[name] = value;
                    break;
                case 11: Inputs.Add(ValueName(reader.Bytes)); break;
                case 12: Outputs.Add(ValueName(reader.Bytes)); break;
            }
        }
    }

    private static string ValueName(ReadOnlySpan<byte> bytes)
    {
        var reader = new ProtoReader(bytes);
        while (reader.Next())
        {
            if (reader.Field == 1)
                return reader.Text;
        }

        return "";
    }

    private OnnxNode Node(ReadOnlySpan<byte> bytes)
    {
        var node = new OnnxNode();
        var reader = new ProtoReader(bytes);
        while (reader.Next())
        {
            switch (reader.Field)
            {
                case 1: node.Inputs.Add(reader.Text); break;
                case 2: node.Outputs.Add(reader.Text); break;
                case 3: node.Name = reader.Text; break;
                case 4: node.Kind = reader.Text; break;
                case 5: Attribute(node, reader.Bytes); break;
                case 7: node.Domain = reader.Text; break;
            }
        }

        return node;
    }

    private void Attribute(OnnxNode node, ReadOnlySpan<byte> bytes)
    {
        var (name, kind) = ("", 0L);
        var (floats, longs) = (new List<float>(), new List<long>());
        object? value = null;
        var reader = new ProtoReader(bytes);
        while (reader.Next())
        {
            switch (reader.Field)
            {
                case 1: name = reader.Text; break;
                case 2: value = reader.Float; break;
                case 3: value = reader.Long; break;
                case 4: value = reader.Text; break;
                case 5: value = Number(reader.Bytes).Value; break;
                case 7: reader.AddFloats(floats); break;
                case 8: reader.AddLongs(longs); break;
                case 20: kind = reader.Long; break;
            }
        }

        // Zero and empty values are left out of a message; the kind says what they were.
        value = kind switch { 1 => value ?? 0f, 2 => value ?? 0L, 3 => value ?? "", 6 => floats.ToArray(), 7 => longs.ToArray(), _ => value };
        if (value is not null)
            node.Attributes[name] = value;
    }

    private (string Name, Tensor Value) Number(ReadOnlySpan<byte> bytes)
    {
        var (name, kind, shape) = ("", 0L, new List<long>());
        var (floats, longs, outside) = (new List<float>(), new List<long>(), new Dictionary<string, string>());
        ReadOnlySpan<byte> raw = [];
        var reader = new ProtoReader(bytes);
        while (reader.Next())
        {
            switch (reader.Field)
            {
                case 1: reader.AddLongs(shape); break;
                case 2: kind = reader.Long; break;
                case 4: reader.AddFloats(floats); break;
                case 5 or 7: reader.AddLongs(longs); break;
                case 8: name = reader.Text; break;
                // Doubles that are not raw are packed, which is the same bytes.
                case 9 or 10: raw = reader.Bytes; break;
                case 13: Entry(reader.Bytes, outside); break;
            }
        }

        var type = kind switch
        {
            1 => ScalarType.Float32,
            10 => ScalarType.Float16,
            16 => ScalarType.BFloat16,
            11 => ScalarType.Float64,
            7 => ScalarType.Int64,
            6 => ScalarType.Int32,
            9 => ScalarType.Bool,
            2 => ScalarType.Byte,
            3 => ScalarType.Int8,
            _ => throw new InvalidDataException($"tensor '{name}' has the element type {kind}, which is not read"),
        };
        if (outside.Count > 0)
            raw = Outside(name, outside);
        // Before memory is asked for: every number takes a byte at least.
        var count = 1L;
        foreach (var side in shape)
            count = side >= 0 && (side == 0 || count <= int.MaxValue / side) ? count * side : long.MaxValue / 2;
        if (count > raw.Length + floats.Count + longs.Count)
            throw new InvalidDataException($"tensor '{name}' has not as many numbers as its shape [{string.Join(", ", shape)}] asks for");
        var value = empty([.. shape], dtype: type);
        var target = value.bytes;
        if (!raw.IsEmpty || target.IsEmpty)
        {
            if (raw.Length != target.Length)
                throw new InvalidDataException($"tensor '{name}' has {raw.Length} bytes for {target.Length}");
            raw.CopyTo(target);
            GC.KeepAlive(value);
        }
        else if (floats.Count == value.numel())
        {
            value = tensor(floats.ToArray(), [.. shape], dtype: type);
        }
        else if (longs.Count == value.numel() && type is not (ScalarType.Float16 or ScalarType.BFloat16))
        {
            value = tensor(longs.ToArray(), [.. shape], dtype: ScalarType.Int64).to(type);
        }
        else
        {
            throw new InvalidDataException($"tensor '{name}' has not as many numbers as its shape [{string.Join(", ", shape)}] asks for");
        }

        return (name, type is ScalarType.Int32 or ScalarType.Int8 or ScalarType.Byte ? value.to(ScalarType.Int64) : value);
    }

    private static void Entry(ReadOnlySpan<byte> bytes, Dictionary<string, string> to)
    {
        var (key, value) = ("", "");
        var reader = new ProtoReader(bytes);
        while (reader.Next())
        {
            if (reader.Field == 1)
                key = reader.Text;
            else if (reader.Field == 2)
                value = reader.Text;
        }

        to[key] = value;
    }

    // Large models keep their numbers in a second file beside the first.
    private byte[] Outside(string name, Dictionary<string, string> where)
    {
        var file = where.GetValueOrDefault("location", "");
        if (file.Length == 0 || Path.GetFileName(file) != file)
            throw new InvalidDataException($"tensor '{name}' lies in '{file}', which is no file beside the model");
        var path = Path.Combine(Path.GetDirectoryName(Path.GetFullPath(_path))!, file);
        if (!File.Exists(path))
            throw new InvalidDataException($"tensor '{name}' lies in '{path}', which is missing: copy it, too");
        using var stream = File.OpenRead(path);
        var offset = Parse("offset") ?? 0;
        var length = Parse("length") ?? stream.Length - offset;
        if (offset < 0 || length < 0 || length > int.MaxValue || offset + length > stream.Length)
            throw new InvalidDataException($"tensor '{name}' lies beyond the end of '{path}'");
        var bytes = new byte[length];
        stream.Position = offset;
        stream.ReadExactly(bytes);
        return bytes;

        long? Parse(string key) => where.TryGetValue(key, out var text) && long.TryParse(text, CultureInfo.InvariantCulture, out var number) ? number : null;
    }
}
